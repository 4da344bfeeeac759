#include "spectrace/model/adapter.hpp"

#include <algorithm>
#include <array>
#include <set>
#include <utility>

// A new family: its file under adapters/, and its line here (model_type, and how its class names begin).
#define SPECTRACE_FAMILIES(X) \
  X(bloom, "Bloom")           \
  X(falcon, "Falcon")         \
  X(gemma, "Gemma")           \
  X(gemma2, "Gemma2")         \
  X(gemma3_text, "Gemma3")    \
  X(gpt2, "GPT2")             \
  X(gpt_neo, "GPTNeo")        \
  X(gpt_neox, "GPTNeoX")      \
  X(gptj, "GPTJ")             \
  X(llama, "Llama")           \
  X(mistral, "Mistral")       \
  X(olmo2, "Olmo2")           \
  X(opt, "OPT")               \
  X(phi3, "Phi3")             \
  X(qwen2, "Qwen2")           \
  X(qwen3, "Qwen3")           \
  X(stablelm, "StableLm")

namespace spectrace {

#define SPECTRACE_DECLARE(family, prefix) ModelDescription describe_##family(const JsonNode&, const TensorStore&);
SPECTRACE_FAMILIES(SPECTRACE_DECLARE)
#undef SPECTRACE_DECLARE

namespace {

struct Family {
  Adapter adapter;
  const char* class_prefix;
};

constexpr Family kFamilies[] = {
#define SPECTRACE_ENTRY(family, prefix) Family{{#family, &describe_##family}, prefix},
    SPECTRACE_FAMILIES(SPECTRACE_ENTRY)
#undef SPECTRACE_ENTRY
};

constexpr std::array kMixturesOfExperts = {
    "dbrx",           "deepseek_v2",
    "deepseek_v3",    "ernie4_5_moe",
    "glm4_moe",       "gpt_oss",
    "granitemoe",     "grok-1",
    "hunyuan_v1_moe", "jamba",
    "jetmoe",         "llama4",
    "llama4_text",    "minimax",
    "mixtral",        "nllb-moe",
    "olmoe",          "phimoe",
    "qwen2_moe",      "qwen3_moe",
    "qwen3_next",     "switch_transformers",
};
constexpr std::array kEncoders = {
    "albert",     "bert",    "bigbird", "camembert", "convbert", "deberta",     "deberta-v2",
    "distilbert", "electra", "ernie",   "esm",       "funnel",   "layoutlm",    "longformer",
    "modernbert", "mpnet",   "roberta", "roformer",  "vit",      "xlm-roberta",
};
constexpr std::array kEncoderDecoders = {
    "bart", "blenderbot", "fsmt",       "led", "m2m_100", "marian",  "mbart",
    "mt5",  "pegasus",    "prophetnet", "t5",  "umt5",    "whisper",
};

template <typename Range>
bool contains(const Range& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

std::string first_architecture(const JsonNode& config) {
  const auto classes = config.find("architectures");
  return classes && classes->is_array() && classes->size() > 0 ? classes->element(0).as_string() : std::string();
}

/// "GPT2LMHeadModel" of the prefix "GPT2": the prefix, then a word of its own ("GPTNeo" must not catch
/// "GPTNeoXForCausalLM").
bool is_class_of(const std::string& class_name, const std::string& prefix) {
  for (const char* suffix : {"LMHeadModel", "ForCausalLM", "Model"})
    if (class_name == prefix + suffix) return true;
  return false;
}

std::string why_unknown(const std::string& type, const JsonNode& config) {
  const bool experts = config.get_int("num_local_experts", 1) > 1 || config.get_int("num_experts", 1) > 1 ||
                       config.get_int("n_routed_experts", 1) > 1;
  if (experts || contains(kMixturesOfExperts, type))
    return "a mixture of experts: its MLP is chosen per token, which the block here does not have";
  if (contains(kEncoderDecoders, type) || config.get_bool("is_encoder_decoder", false))
    return "an encoder-decoder: only models with a causal decoder alone are supported";
  if (contains(kEncoders, type)) return "an encoder: its attention is not causal";
  if (type == "gemma3" || config.has("vision_config") || config.has("audio_config"))
    return "a model of more than text: only text models are supported";
  return "known: " + quoted_list(known_families());
}

const Family& find_family(const JsonNode& config) {
  std::string type = config.get_string("model_type", "");
  const std::string class_name = first_architecture(config);
  for (const Family& family : kFamilies)
    if (type == family.adapter.model_type) return family;
  if (type.empty()) {
    for (const Family& family : kFamilies)
      if (is_class_of(class_name, family.class_prefix)) return family;
  }
  if (type.empty() && class_name.empty())
    throw config.error("names no model_type and no architectures", why_unknown(type, config),
                       "Add the field model_type.");
  throw config.error("the model type '" + (type.empty() ? class_name : type) + "' is not supported",
                     why_unknown(type, config));
}

std::string shape_text(const std::vector<std::int64_t>& shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  return text + "]";
}

std::string check_source(const TensorStore& store, const TensorSource& source, const std::string& name) {
  const TensorInfo* info = store.find(name);
  if (!info) return "tensor '" + name + "' is absent";
  if (info->shape != source.shape)
    return "tensor '" + name + "' has shape " + shape_text(info->shape) + ", expected " + shape_text(source.shape) +
           " (from config.json " + source.config_keys + ")";
  if (!is_floating(info->type) || info->type == StorageType::float8)
    return "tensor '" + name + "' holds " + spectrace::name(info->type) + ", expected floating numbers";
  return {};
}

/// @throws InputError with every absent or misshapen tensor (the first of them, if there are many).
void check_sources(const ModelDescription& model, const TensorStore& store) {
  constexpr std::size_t kMostShown = 8;
  std::vector<std::string> problems;
  std::set<std::string> seen;
  for (const TensorSource* source : model.all_sources()) {
    auto names = source->stacked;
    names.insert(names.begin(), source->tensor);
    for (const auto& name : names) {
      if (!seen.insert(name).second) continue;
      auto problem = check_source(store, *source, name);
      if (!problem.empty()) problems.push_back(std::move(problem));
    }
  }
  if (problems.empty()) return;
  std::string text;
  for (std::size_t i = 0; i < std::min(problems.size(), kMostShown); ++i) text += (i == 0 ? "" : "; ") + problems[i];
  if (problems.size() > kMostShown) text += "; and " + std::to_string(problems.size() - kMostShown) + " more";
  throw InputError(ErrorKind::model, store.folder().string() + ": " + text, "the family is " + model.family,
                   "Is the checkpoint whole, and config.json its own?");
}

bool ends_with_any(const std::string& name, std::initializer_list<const char*> endings) {
  return std::any_of(endings.begin(), endings.end(), [&](const char* ending) { return name.ends_with(ending); });
}

}  // namespace

ModelDescription describe_model(const JsonNode& config, const TensorStore& store) {
  if (!config.is_object()) throw config.error("is not a JSON object");
  const Family& family = find_family(config);
  refuse_quantized(store, config);
  ModelDescription model = family.adapter.describe(config, store);
  model.family = family.adapter.model_type;
  model.architecture = first_architecture(config);
  check_sources(model, store);
  return model;
}

std::vector<std::string> known_families() {
  std::vector<std::string> names;
  for (const Family& family : kFamilies) names.emplace_back(family.adapter.model_type);
  return names;
}

std::vector<std::string> unused_tensors(const ModelDescription& description, const TensorStore& store) {
  std::set<std::string> used;
  for (const TensorSource* source : description.all_sources()) {
    used.insert(source->tensor);
    used.insert(source->stacked.begin(), source->stacked.end());
  }
  std::vector<std::string> unused;
  for (const TensorInfo& tensor : store.tensors()) {
    // Buffers that old checkpoints carry: causal masks and rotary tables; and the second name of a tied table.
    const bool is_buffer = ends_with_any(tensor.name, {".attn.bias", ".attn.masked_bias", ".attention.bias",
                                                       ".attention.masked_bias", ".rotary_emb.inv_freq"});
    const bool is_tied_head =
        description.embedding.tied && ends_with_any(tensor.name, {"lm_head.weight", "embed_out.weight"});
    if (is_floating(tensor.type) && !used.contains(tensor.name) && !is_buffer && !is_tied_head)
      unused.push_back(tensor.name);
  }
  return unused;
}

}  // namespace spectrace
