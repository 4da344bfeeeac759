#include "spectrace/model/adapter.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <set>
#include <string>
#include <utility>

#include "config_fields.hpp"
#include "text_part.hpp"

namespace spectrace {

// families.inc has a line SPECTRACE_FAMILY(name) for each file of src/model/adapters; the build writes it.
#define SPECTRACE_FAMILY(family)                                         \
  ModelDescription describe_##family(ConfigFields&, const TensorStore&); \
  const char* class_of_##family();
#include "families.inc"
#undef SPECTRACE_FAMILY

namespace {

constexpr Adapter kFamilies[] = {
#define SPECTRACE_FAMILY(family) Adapter{#family, &class_of_##family, &describe_##family},
#include "families.inc"
#undef SPECTRACE_FAMILY
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

/// "GPTNeoXForCausalLM" is a class of "gpt_neox", and "Gemma3ForCausalLM" one of "gemma3_text"; "GPTNeoForCausalLM" is
/// not one of "gpt_neox".
bool is_class_of(std::string class_name, std::string model_type) {
  const auto cut = [](std::string& text, const std::string& ending) {
    if (!text.ends_with(ending)) return false;
    text.resize(text.size() - ending.size());
    return true;
  };
  if (!cut(class_name, "LMHeadModel") && !cut(class_name, "ForCausalLM") && !cut(class_name, "Model")) return false;
  cut(model_type, "_text");
  std::erase(class_name, '_');  // "Ernie4_5ForCausalLM"
  std::erase(model_type, '_');
  return std::equal(class_name.begin(), class_name.end(), model_type.begin(), model_type.end(),
                    [](char a, char b) { return std::tolower(static_cast<unsigned char>(a)) == b; });
}

/// Types of models that came with code of their own until transformers took them in, under another name and with other
/// fields.
struct OldName {
  const char* type;
  const char* family;
  const char* release;  ///< of transformers, from which on the family is there
};
constexpr std::array kOldNames = {OldName{"RefinedWeb", "falcon", "4.33"}, OldName{"RefinedWebModel", "falcon", "4.33"},
                                  OldName{"stablelm_epoch", "stablelm", "4.38"}};

std::string why_unknown(const std::string& type, const JsonNode& config) {
  for (const OldName& old : kOldNames)
    if (type == old.type)
      return std::string("the old name of ") + old.family + ", with fields of its own; transformers has it since " +
             old.release + ", and the hub's present revision of such a model is in that form: use that one";
  const bool experts = config.get_int("num_local_experts", 1) > 1 || config.get_int("num_experts", 1) > 1 ||
                       config.get_int("n_routed_experts", 1) > 1;
  if (experts || contains(kMixturesOfExperts, type))
    return "a mixture of experts: its MLP is chosen per token, which the block here does not have";
  if (contains(kEncoderDecoders, type) || config.get_bool("is_encoder_decoder", false))
    return "an encoder-decoder: only models with a causal decoder alone are supported";
  if (contains(kEncoders, type)) return "an encoder: its attention is not causal";
  return "known: " + quoted_list(known_families());
}

/// Null if the config names none that is known.
const Adapter* find_family(const JsonNode& config, const TextPart& part) {
  for (const Adapter& family : kFamilies)
    if (part.model_type == family.model_type) return &family;
  if (!part.model_type.empty() || !part.part_of.empty()) return nullptr;
  for (const Adapter& family : kFamilies)
    if (is_class_of(first_architecture(config), family.model_type)) return &family;
  return nullptr;
}

InputError unknown_family(const JsonNode& config, const TextPart& part) {
  const std::string class_name = first_architecture(config);
  if (part.model_type.empty() && part.part_of.empty() && class_name.empty())
    return config.error("names no model_type and no architectures", why_unknown("", config),
                        "Add the field model_type.");
  const std::string type = part.model_type.empty() ? class_name : part.model_type;
  if (!part.part_of.empty())
    return config.error(
        "the text part of '" + part.part_of + "' has the model type '" + type + "', which is not supported",
        why_unknown(type, part.config));
  return config.error("the model type '" + type + "' is not supported", why_unknown(type, config));
}

/// What is wrong with a tensor that the description needs; nothing if all is well. @pre it is not absent.
std::string problem_of(const TensorInfo& info, const TensorSource& source) {
  if (info.shape != source.shape)
    return "tensor '" + info.name + "' has shape " + shape_text(info.shape) + ", expected " + shape_text(source.shape) +
           " (from config.json " + source.config_keys + ")";
  if (!is_floating(info.type))
    return "tensor '" + info.name + "' holds " + spectrace::name(info.type) + ", expected floating numbers";
  return {};
}

/// @throws InputError with every absent or misshapen tensor (the first of them, if there are many).
void check_sources(const ModelDescription& model, const TensorStore& store) {
  constexpr std::size_t kMostShown = 8;
  const SourceProblems found = source_problems(model, store);
  std::vector<std::string> problems;
  for (const auto& name : found.missing) problems.push_back("tensor '" + name + "' is absent");
  problems.insert(problems.end(), found.unusable.begin(), found.unusable.end());
  if (problems.empty()) return;
  std::string text;
  for (std::size_t i = 0; i < std::min(problems.size(), kMostShown); ++i) text += (i == 0 ? "" : "; ") + problems[i];
  if (problems.size() > kMostShown) text += "; and " + std::to_string(problems.size() - kMostShown) + " more";
  throw InputError(ErrorKind::model, store.folder().string() + ": " + text, "the family is " + model.family,
                   "Is the checkpoint whole, and config.json its own?");
}

/// Sums over all sources, in bytes, must stay within 64 bits also where the checkpoint contradicts the config.
void check_sizes(const ModelDescription& model, const JsonNode& config) {
  constexpr std::int64_t kMostElements = std::int64_t{1} << 40;
  for (const TensorSource* source : model.all_sources()) {
    const auto elements = checked_num_elements(source->shape);
    if (!elements || *elements > kMostElements)
      throw config.error("tensor '" + source->tensor + "' would have shape " + shape_text(source->shape),
                         "from " + source->config_keys + ": no model has a matrix as large");
  }
}

bool ends_with_any(const std::string& name, std::initializer_list<const char*> endings) {
  return std::any_of(endings.begin(), endings.end(), [&](const char* ending) { return name.ends_with(ending); });
}

}  // namespace

bool is_buffer(const TensorInfo& tensor) {
  const bool is_mask = tensor.shape.size() == 4 && ends_with_any(tensor.name, {".attn.bias", ".attention.bias"});
  const bool is_mask_value =
      tensor.num_elements() == 1 && ends_with_any(tensor.name, {".attn.masked_bias", ".attention.masked_bias"});
  return is_mask || is_mask_value || ends_with_any(tensor.name, {".rotary_emb.inv_freq", ".attn.embed_positions"});
}

namespace {

std::vector<std::string> parts_of_name(const std::string& name) {
  std::vector<std::string> parts(1);
  for (const char c : name) {
    if (c == '.')
      parts.emplace_back();
    else
      parts.back() += c;
  }
  return parts;
}

/// A module of its own ("mtp_layers" in MiMo, "mtp" in Qwen3-Next), or layers behind the model's (DeepSeek-V3,
/// GLM-4.5).
bool is_of_mtp_head(const ModelDescription& model, const std::string& name) {
  if (model.num_mtp_layers == 0) return false;
  const std::vector<std::string> parts = parts_of_name(name);
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (parts[i] == "mtp" || parts[i] == "mtp_layers") return true;
    if (parts[i] != "layers" || i + 1 == parts.size()) continue;
    for (std::int64_t layer = model.num_layers; layer < model.num_layers + model.num_mtp_layers; ++layer)
      if (parts[i + 1] == std::to_string(layer)) return true;
  }
  return false;
}

std::int64_t read_num_mtp_layers(const JsonNode& config) {
  const auto node = config.find("num_nextn_predict_layers");
  if (!node) return 0;
  constexpr std::int64_t kMost = 100;  // DeepSeek-V3 and MiMo have 1
  const std::int64_t value = node->as_int();
  if (value < 0 || value > kMost)
    throw node->error("is " + std::to_string(value) + ", expected 0 to " + std::to_string(kMost));
  return value;
}

/// A fact of the model where some layers turn and others do not (SmolLM3, EXAONE 4, Cohere 2).
void note_layers_without_rotary(ModelDescription& model) {
  Json without = Json::array();
  for (std::size_t i = 0; i < model.attention.size(); ++i)
    if (!model.attention[i].rotary) without.push_back(i);
  if (!without.empty() && without.size() < model.attention.size())
    model.rope_facts.emplace_back("rope_layers_without", without.dump());
}

/// A model that gives vectors or one number has no head, where the weights are not tied: only the unembedding lacks it.
void find_unembedding(ModelDescription& model, const TensorStore& store) {
  EmbeddingSources& embedding = model.embedding;
  embedding.has_unembedding = embedding.tied || store.find(embedding.unembedding.tensor) != nullptr;
  if (!embedding.has_unembedding) embedding.unembedding_bias.reset();
}

}  // namespace

ModelDescription read_description(const JsonNode& config, const TensorStore& store) {
  if (!config.is_object()) throw config.error("is not a JSON object");
  const TextPart part = text_part(config);
  const Adapter* family = find_family(config, part);
  if (family == nullptr) throw unknown_family(config, part);
  refuse_quantized(store, config);
  ConfigFields fields(part.config, store, family->model_type);
  if (!part.part_of.empty()) fields.set_part_of_whole(part.tied);
  ModelDescription model = family->describe(fields, store);
  fields.expect_understood();
  model.family = family->model_type;
  model.architecture = first_architecture(config);
  model.tensors = store.tensors();
  find_unembedding(model, store);
  model.part_of = part.part_of;
  model.warnings = fields.warnings();
  if (!part.warning.empty()) model.warnings.push_back(part.warning);
  if (fields.found_tied() == true && !model.embedding.tied)
    model.warnings.push_back("config.json ties the unembedding to the embedding, but the checkpoint has '" +
                             model.embedding.unembedding.tensor + "' with other values than '" +
                             model.embedding.token.tensor + "': W_U is the former, as in transformers 5");
  model.num_mtp_layers = read_num_mtp_layers(part.config);
  note_layers_without_rotary(model);
  check_sizes(model, config);
  return model;
}

SourceProblems source_problems(const ModelDescription& model, const TensorStore& store) {
  SourceProblems problems;
  std::set<std::string> seen;
  for (const TensorSource* source : model.all_sources()) {
    auto names = source->stacked;
    names.insert(names.begin(), source->tensor);
    for (const auto& name : names) {
      if (!seen.insert(name).second) continue;
      const TensorInfo* info = store.find(name);
      if (!info) {
        problems.missing.push_back(name);
      } else if (auto problem = problem_of(*info, *source); !problem.empty()) {
        problems.unusable.push_back(std::move(problem));
      }
    }
  }
  return problems;
}

ModelDescription describe_model(const JsonNode& config, const TensorStore& store) {
  ModelDescription model = read_description(config, store);
  check_sources(model, store);
  if (!model.embedding.has_unembedding) return model;
  const StorageType type = store.find(model.embedding.unembedding.tensor)->type;  // it is there: that was checked
  model.embedding.unembedding_is_of_16_bits = type == StorageType::bfloat16 || type == StorageType::float16;
  return model;
}

std::string architecture_of(const JsonNode& config) {
  try {
    return config.is_object() ? first_architecture(config) : "";
  } catch (const InputError&) {
    return "";
  }
}

bool names_known_family(const JsonNode& config) {
  try {
    return config.is_object() && find_family(config, text_part(config)) != nullptr;
  } catch (const InputError&) {
    return false;  // a field of another type
  }
}

std::vector<FamilyInfo> families() {
  std::vector<FamilyInfo> all;
  for (const Adapter& family : kFamilies)
    all.push_back({family.model_type, family.class_name(), wholes_of(family.model_type)});
  return all;
}

std::vector<std::string> known_families() {
  std::vector<std::string> names;
  for (const Adapter& family : kFamilies) names.emplace_back(family.model_type);
  return names;
}

namespace {

/// What the names of the text part's tensors begin with, and those of no other part: "model.language_model."; "" where
/// that is not known.
std::string text_prefix(const ModelDescription& model) {
  const std::string& name = model.layers.front().w_q.weight.tensor;
  const auto end = name.find("layers.");
  return end == std::string::npos ? "" : name.substr(0, end);
}

bool is_of_other_part(const ModelDescription& model, const std::string& tensor) {
  return !model.part_of.empty() && !tensor.starts_with(text_prefix(model));
}

std::set<std::string> used_tensors(const ModelDescription& model) {
  std::set<std::string> used;
  for (const TensorSource* source : model.all_sources()) {
    used.insert(source->tensor);
    used.insert(source->stacked.begin(), source->stacked.end());
  }
  return used;
}

}  // namespace

std::vector<std::string> unused_tensors(const ModelDescription& description, const TensorStore& store) {
  const std::set<std::string> used = used_tensors(description);
  std::vector<std::string> unused;
  for (const TensorInfo& tensor : store.tensors()) {
    const bool is_tied_head =
        description.embedding.tied &&
        ends_with_any(tensor.name, {"lm_head.weight", "embed_out.weight", "output_projection.weight"});
    if (is_floating(tensor.type) && tensor.num_elements() > 0 && !used.contains(tensor.name) && !is_buffer(tensor) &&
        !is_tied_head && !is_of_other_part(description, tensor.name) && !is_of_mtp_head(description, tensor.name))
      unused.push_back(tensor.name);
  }
  return unused;
}

std::vector<std::string> tensors_of_other_parts(const ModelDescription& description, const TensorStore& store) {
  const std::set<std::string> used = used_tensors(description);
  std::vector<std::string> others;
  for (const TensorInfo& tensor : store.tensors())
    if (is_of_other_part(description, tensor.name) && !used.contains(tensor.name)) others.push_back(tensor.name);
  return others;
}

std::vector<std::string> mtp_tensors(const ModelDescription& description, const TensorStore& store) {
  std::vector<std::string> names;
  for (const TensorInfo& tensor : store.tensors())
    if (is_of_mtp_head(description, tensor.name)) names.push_back(tensor.name);
  return names;
}

}  // namespace spectrace
