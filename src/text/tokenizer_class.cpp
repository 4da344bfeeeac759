#include "tokenizer_class.hpp"

#include <algorithm>
#include <array>
#include <map>
#include <set>

#include "spectrace/text/limits.hpp"

namespace spectrace::text {
namespace {

constexpr std::string_view kEndOfText = "<|endoftext|>";

// Read from transformers 5.23, models/*/tokenization_*.py. Classes that were never saved without tokenizer.json
// (Cohere's) or whose vocab.json it does not read (Qwen3.5's, Llama's, Gemma's) do not read one here.
const std::array<TokenizerClass, 9>& known_classes() {
  static const std::array<TokenizerClass, 9> classes = {{
      {.name = "GPT2Tokenizer",
       .default_tokens = {{"unk_token", kEndOfText}, {"bos_token", kEndOfText}, {"eos_token", kEndOfText}},
       .reads_vocab_and_merges = true},
      {.name = "CodeGenTokenizer",
       .default_tokens = {{"unk_token", kEndOfText}, {"bos_token", kEndOfText}, {"eos_token", kEndOfText}},
       .reads_vocab_and_merges = true},
      {.name = "GPTNeoXTokenizer",
       .default_tokens = {{"unk_token", kEndOfText},
                          {"bos_token", kEndOfText},
                          {"eos_token", kEndOfText},
                          {"pad_token", "<|padding|>"}},
       .reads_vocab_and_merges = true,
       .drops_post_processor = true},
      {.name = "Qwen2Tokenizer",
       .default_tokens = {{"unk_token", kEndOfText}, {"eos_token", kEndOfText}, {"pad_token", kEndOfText}},
       .reads_vocab_and_merges = true,
       .plain_special_tokens = true},
      {.name = "Qwen3_5Tokenizer",
       .default_tokens = {{"unk_token", kEndOfText}, {"eos_token", kEndOfText}, {"pad_token", kEndOfText}}},
      {.name = "RobertaTokenizer",
       .default_tokens = {{"bos_token", "<s>"},
                          {"eos_token", "</s>"},
                          {"sep_token", "</s>"},
                          {"cls_token", "<s>"},
                          {"unk_token", "<unk>"},
                          {"pad_token", "<pad>"},
                          {"mask_token", "<mask>"}},
       .reads_vocab_and_merges = true,
       .puts_cls_and_sep = true},
      {.name = "CohereTokenizer",
       .default_tokens = {{"unk_token", "<UNK>"},
                          {"bos_token", "<BOS_TOKEN>"},
                          {"eos_token", "<|END_OF_TURN_TOKEN|>"},
                          {"pad_token", "<PAD>"},
                          {"cls_token", "<CLS>"},
                          {"sep_token", "<SEP>"},
                          {"mask_token", "<MASK_TOKEN>"}}},
      {.name = "LlamaTokenizer",
       .default_tokens = {{"unk_token", "<unk>"}, {"bos_token", "<s>"}, {"eos_token", "</s>"}}},
      {.name = "GemmaTokenizer",
       .default_tokens = {{"unk_token", "<unk>"},
                          {"bos_token", "<bos>"},
                          {"eos_token", "<eos>"},
                          {"pad_token", "<pad>"},
                          {"mask_token", "<mask>"}}},
  }};
  return classes;
}

/// The class that transformers 5.23 has for a model_type; "" where tokenizer.json counts as it is; nothing where it has
/// none. Models that hold text, as far as they may have a folder that spectrace reads.
std::optional<std::string_view> class_of_model_type(const std::string& model_type) {
  static const std::map<std::string_view, std::string_view> classes = [] {
    std::map<std::string_view, std::string_view> all;
    const auto add = [&](std::string_view name, std::initializer_list<std::string_view> types) {
      for (const auto type : types) all[type] = name;
    };
    add("GPT2Tokenizer", {"gpt2", "gpt_neo", "gptj", "opt", "codegen", "phi", "starcoder2", "dbrx", "jais2"});
    add("GPTNeoXTokenizer", {"gpt_neox", "olmo", "olmoe", "mpt", "mamba", "mamba2", "falcon_mamba", "rwkv", "xlstm"});
    add("Qwen2Tokenizer", {"qwen2", "qwen2_moe", "qwen2_vl", "qwen2_5_vl", "qwen2_audio", "qwen2_5_omni", "qwen3",
                           "qwen3_moe", "qwen3_next", "qwen3_vl", "qwen3_vl_moe", "qwen3_omni_moe", "qwen3_asr"});
    add("Qwen3_5Tokenizer", {"qwen3_5", "qwen3_5_text", "qwen3_5_moe", "qwen3_5_moe_text", "qwen4_exp"});
    add("CohereTokenizer", {"cohere", "cohere2", "aya_vision"});
    add("GemmaTokenizer", {"gemma", "gemma2", "gemma3", "gemma3_text", "gemma3n", "gemma3n_text", "recurrent_gemma",
                           "shieldgemma2", "t5gemma", "diffusion_gemma", "zaya"});
    add("RobertaTokenizer", {"roberta", "bart"});
    add("CodeLlamaTokenizer", {"code_llama"});
    add("", {"mistral",     "mixtral",    "ministral",
             "ministral3",  "mistral3",   "phi3",
             "phimoe",      "stablelm",   "olmo2",
             "olmo3",       "granite",    "granitemoe",
             "gpt_bigcode", "persimmon",  "glm",
             "glm4",        "nemotron",   "arctic",
             "jamba",       "internlm2",  "internlm3",
             "ernie4_5",    "molmo",      "hyperclovax",
             "minicpm3",    "minimax_m2", "modernbert-decoder"});
    return all;
  }();
  const auto found = classes.find(model_type);
  if (found == classes.end()) return std::nullopt;
  return found->second;
}

/// Model types whose tokenizer_class on the hub transformers 5.23 knows to be wrong (its
/// MODELS_WITH_INCORRECT_HUB_TOKENIZER_CLASS, as far as class_of_model_type names a class for them).
bool overrules_named_class(const std::string& model_type) {
  static const std::set<std::string_view> types = {"qwen2", "qwen3_5", "qwen3_5_moe", "qwen3_5_moe_text", "qwen4_exp"};
  return types.contains(model_type);
}

bool is_mistral(const std::string& model_type) {
  static const std::set<std::string_view> types = {"mistral", "mixtral", "ministral", "ministral3", "mistral3"};
  return types.contains(model_type);
}

std::string without_fast(std::string name) {
  if (name.ends_with("Fast")) name.resize(name.size() - 4);
  return name;
}

/// Names under which transformers 5 takes tokenizer.json as it is.
bool is_backend(const std::string& name) {
  static const std::set<std::string_view> names = {"PreTrainedTokenizer", "TokenizersBackend", "PythonBackend",
                                                   "BloomTokenizer"};
  return names.contains(name);
}

Json byte_level(bool add_prefix_space, bool use_regex) {
  return {
      {"type", "ByteLevel"}, {"add_prefix_space", add_prefix_space}, {"trim_offsets", true}, {"use_regex", use_regex}};
}

Json split(Json pattern, const char* behavior) {
  return {{"type", "Split"}, {"pattern", std::move(pattern)}, {"behavior", behavior}, {"invert", false}};
}

Json sequence(Json first, Json second) {
  return {{"type", "Sequence"}, {"pretokenizers", Json::array({std::move(first), std::move(second)})}};
}

// Of Qwen2.5's and Qwen3.5's tokenizer.json: digits one by one; the latter keeps marks with their letters.
constexpr const char* kQwen2Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kQwen35Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";

/// A step with what does not change its result taken away, so that equal steps are equal.
Json plain(const Json& step) {
  if (!step.is_object()) return step;
  Json copy = step;
  for (const char* list : {"normalizers", "pretokenizers"})
    if (copy.contains(list) && copy[list].is_array()) {
      Json parts = Json::array();
      for (const Json& part : copy[list]) parts.push_back(plain(part));
      if (parts.size() == 1) return parts.front();
      copy[list] = parts;
    }
  const std::string type = copy.value("type", Json()).is_string() ? copy["type"].get<std::string>() : "";
  if (type == "ByteLevel") {  // add_prefix_space is dealt with by itself
    const bool use_regex = !copy.contains("use_regex") || copy["use_regex"] != Json(false);
    return {{"type", type}, {"use_regex", use_regex}};
  }
  if (type == "Split" && !copy.contains("invert")) copy["invert"] = false;
  return copy;
}

bool model_flag(const Json& model, const char* key) { return model.contains(key) && model[key] == Json(true); }
bool has_text(const Json& model, const char* key) {
  return model.contains(key) && model[key].is_string() && model[key] != Json("");
}

}  // namespace

const TokenizerClass* find_tokenizer_class(std::string_view name) {
  for (const TokenizerClass& known : known_classes())
    if (known.name == name) return &known;
  return nullptr;
}

ClassPipeline pipeline_of(const TokenizerClass& tokenizer_class, const TokenizerFiles& files) {
  const std::string_view name = tokenizer_class.name;
  const bool add_prefix_space = files.find_flag("add_prefix_space").value_or(name == "LlamaTokenizer");
  const Json nfc = {{"type", "NFC"}};
  if (name == "Qwen2Tokenizer" || name == "Qwen3_5Tokenizer") {
    const char* pattern = name == "Qwen2Tokenizer" ? kQwen2Pattern : kQwen35Pattern;
    return {nfc, sequence(split({{"Regex", pattern}}, "Isolated"), byte_level(add_prefix_space, false))};
  }
  if (name == "GPTNeoXTokenizer") return {nfc, byte_level(add_prefix_space, true)};
  if (name == "CohereTokenizer")
    return {nfc, sequence({{"type", "Digits"}, {"individual_digits", true}}, byte_level(add_prefix_space, true))};
  if (name == "LlamaTokenizer") {
    const bool legacy = files.find_flag("legacy").value_or(false);
    const char* scheme = !add_prefix_space ? "never" : legacy ? "always" : "first";
    return {nullptr, {{"type", "Metaspace"}, {"replacement", "▁"}, {"prepend_scheme", scheme}, {"split", false}}};
  }
  if (name == "GemmaTokenizer")
    return {{{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "▁"}},
            split({{"String", " "}}, "MergedWithPrevious")};
  return {nullptr, byte_level(add_prefix_space, true)};
}

std::string find_class_misfit(const TokenizerClass& tokenizer_class, const TokenizerFiles& files,
                              const JsonNode& tokenizer_json) {
  const ClassPipeline expected = pipeline_of(tokenizer_class, files);
  const Json& root = tokenizer_json.json();
  const auto step = [&](const char* key) { return root.contains(key) ? plain(root[key]) : Json(); };
  if (step("normalizer") != plain(expected.normalizer)) return "its normalizer";
  // After Gemma's normalizer no text has a space, so that cutting at spaces or not is the same.
  const Json pre_tokenizer = step("pre_tokenizer");
  const bool is_same = pre_tokenizer == plain(expected.pre_tokenizer) ||
                       (tokenizer_class.name == "GemmaTokenizer" && pre_tokenizer.is_null());
  if (!is_same) return "its pre-tokenizer";
  const Json model = root.contains("model") && root["model"].is_object() ? root["model"] : Json::object();
  const bool is_sentencepiece = tokenizer_class.name == "LlamaTokenizer" || tokenizer_class.name == "GemmaTokenizer";
  if (model.contains("vocab") && model["vocab"].is_array()) return "its model";
  if (model_flag(model, "ignore_merges")) return "ignore_merges of its model";
  if (model_flag(model, "byte_fallback") != is_sentencepiece) return "byte_fallback of its model";
  if (has_text(model, "continuing_subword_prefix") || has_text(model, "end_of_word_suffix"))
    return "the prefix or suffix of its model";
  return "";
}

ChosenClass choose_class(const TokenizerFiles& files, bool is_byte_level) {
  ChosenClass chosen;
  std::string named;
  if (files.config)
    if (const auto name = files.config->node.find("tokenizer_class")) named = name->as_string();
  chosen.from = "tokenizer_class in tokenizer_config.json";
  if (named.empty()) {
    named = files.model_tokenizer_class;
    chosen.from = "tokenizer_class in config.json";
  }
  named = without_fast(named);
  const auto registered = class_of_model_type(files.model_type);
  if (named.empty()) {
    chosen.from = files.model_type.empty() ? "" : "model_type '" + shown(files.model_type) + "' in config.json";
    chosen.name = registered.value_or("");
    return chosen;
  }
  chosen.name = is_backend(named) ? "" : named;
  // Llama 3's folders name Llama's class, which would cut as Llama 2.
  if (named == "LlamaTokenizer" && files.has_tokenizer_json && is_byte_level && !is_mistral(files.model_type) &&
      !overrules_named_class(files.model_type)) {
    chosen.name = "";
    return chosen;
  }
  if (!registered || *registered == named) return chosen;
  if (registered->empty()) {
    if (files.has_tokenizer_json) chosen.name = "";
    return chosen;
  }
  if (overrules_named_class(files.model_type)) {
    if (!files.has_tokenizer_json)
      chosen.warnings.push_back(chosen.from + " is '" + shown(named) + "', and model_type '" + files.model_type +
                                "' in config.json has " + std::string(*registered) +
                                ", which counts, as in transformers 5 (transformers 4: " + shown(named) + ")");
    chosen.name = *registered;
    chosen.from = "model_type '" + files.model_type + "' in config.json";
  }
  return chosen;
}

}  // namespace spectrace::text
