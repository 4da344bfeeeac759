#include "text_part.hpp"

#include <array>
#include <string_view>
#include <utility>

namespace spectrace {
namespace {

/// A model of more than text: the text model's type where its object names none, and whether it ties its head where
/// the config does not say. Each is held against transformers (tests/oracle/random_towers.py).
struct Whole {
  std::string_view model_type, text_type;
  bool is_tied;
  bool may_be_flat = false;  ///< files of its first years have the text's fields beside the other parts' objects
};
constexpr std::array kWholes = {
    Whole{"aya_vision", "cohere2", true},
    Whole{"cohere2_vision", "cohere2", true},
    Whole{"gemma3", "gemma3_text", true},
    Whole{"idefics2", "mistral", false},
    Whole{"idefics3", "llama", false},
    Whole{"internvl", "qwen2", true},
    Whole{"llava", "llama", false},
    Whole{"llava_next", "llama", false},
    Whole{"llava_onevision", "qwen2", false},
    Whole{"mistral3", "mistral", true},
    Whole{"qwen2_5_vl", "qwen2_5_vl_text", false, true},
    Whole{"qwen2_vl", "qwen2_vl_text", false, true},
    Whole{"qwen3_vl", "qwen3_vl_text", false},
    Whole{"smolvlm", "llama", false},
};

/// Where the text model's object is: transformers' name, and those of models with code of their own.
constexpr std::array kTextKeys = {"text_config", "llm_config", "language_config"};

const Whole* find_whole(const std::string& model_type) {
  for (const Whole& whole : kWholes)
    if (whole.model_type == model_type) return &whole;
  return nullptr;
}

std::optional<JsonNode> text_object(const JsonNode& config) {
  for (const char* key : kTextKeys)
    if (const auto object = config.find(key); object && object->is_object()) return object;
  return std::nullopt;
}

}  // namespace

TextPart text_part(const JsonNode& config) {
  const std::string type = config.get_string("model_type", "");
  const auto object = text_object(config);
  const Whole* whole = find_whole(type);
  if (!object && whole == nullptr) return {config, type};
  if (type == "paligemma")
    throw config.error("the model type 'paligemma' is not supported",
                       "its text attends to all of the prompt at once, which the causal block here does not");
  if (!object && !whole->may_be_flat)
    throw config.error("the model type '" + type + "' is one of more than text, but there is no object 'text_config'",
                       "its text part is what is measured");
  TextPart part{object ? *object : config, "", type.empty() ? "a model without model_type" : type};
  const std::string own_type = object ? object->get_string("model_type", "") : "";
  part.model_type = own_type.empty() && whole != nullptr ? std::string(whole->text_type) : own_type;
  if (const auto tied = config.find("tie_word_embeddings"))
    part.tied = tied->as_bool();
  else if (whole != nullptr)
    part.tied = whole->is_tied;
  if (whole == nullptr)
    part.warning = "the model type '" + type +
                   "' has not been held against its own code: what is measured is its text " +
                   "part, as a model of the family '" + part.model_type + "'";
  return part;
}

std::vector<std::string> wholes_of(const std::string& text_type) {
  std::vector<std::string> types;
  for (const Whole& whole : kWholes)
    if (whole.text_type == text_type) types.emplace_back(whole.model_type);
  return types;
}

}  // namespace spectrace
