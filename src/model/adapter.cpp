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
  FamilyClass class_of_##family();
#include "families.inc"
#undef SPECTRACE_FAMILY

namespace {

constexpr Adapter kFamilies[] = {
#define SPECTRACE_FAMILY(family) Adapter{#family, &class_of_##family, &describe_##family},
#include "families.inc"
#undef SPECTRACE_FAMILY
};

constexpr std::array kMixturesOfExperts = {"dbrx", "grok-1", "jetmoe", "llama4", "nllb-moe", "switch_transformers"};
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
  if (const TensorInfo* matrix = store.find(embedding.unembedding.tensor))
    embedding.unembedding_is_of_16_bits = matrix->type == StorageType::bfloat16 || matrix->type == StorageType::float16;
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
  model.limits = family->class_of().limits;
  // Without a block no field can change what is computed: matrices are what they are.
  if (model.has_forward()) fields.expect_understood();
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
      if (auto problem = info == nullptr ? "tensor '" + name + "' is absent" : problem_of(*info, *source);
          !problem.empty())
        problems[name] = std::move(problem);
    }
  }
  return problems;
}

InputError source_error(const ModelDescription& model, const TensorStore& store, const SourceProblems& problems) {
  constexpr std::size_t kMostShown = 8;
  std::string text;
  std::size_t shown = 0;
  for (const auto& [name, problem] : problems)
    if (shown++ < kMostShown) text += (text.empty() ? "" : "; ") + problem;
  if (problems.size() > kMostShown) text += "; and " + std::to_string(problems.size() - kMostShown) + " more";
  return InputError(ErrorKind::model, store.folder().string() + ": " + text, "the family is " + model.family,
                    "Is the checkpoint whole, and config.json its own?");
}

ModelDescription describe_model(const JsonNode& config, const TensorStore& store) {
  ModelDescription model = read_description(config, store);
  if (const SourceProblems problems = source_problems(model, store); !problems.empty())
    throw source_error(model, store, problems);
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
  for (const Adapter& family : kFamilies) {
    const FamilyClass own = family.class_of();
    all.push_back({family.model_type, own.name, own.limits, wholes_of(family.model_type)});
  }
  return all;
}

std::vector<std::string> known_families() {
  std::vector<std::string> names;
  for (const Adapter& family : kFamilies) names.emplace_back(family.model_type);
  return names;
}

}  // namespace spectrace
