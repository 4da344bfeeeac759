#include <algorithm>
#include <set>

#include "pipeline.hpp"
#include "special_tokens.hpp"
#include "spectrace/core/file.hpp"
#include "spectrace/text/bpe.hpp"
#include "spectrace/text/limits.hpp"
#include "spectrace/text/unigram.hpp"
#include "tokenizer_class.hpp"
#include "tokenizer_files.hpp"
#include "unsupported.hpp"

namespace spectrace {
namespace {

using text::AddedToken;
using text::NumberedToken;
using text::SpecialTokens;
using text::TokenizerClass;
using text::TokenizerFiles;

std::unique_ptr<const text::TokenModel> read_model(const JsonNode& node) {
  // The oldest files do not say their model's type: only BPE has merges, only Unigram a list for a vocabulary.
  std::string type = node.get_string("type", "");
  if (type.empty() && node.has("merges")) type = "BPE";
  if (type.empty() && node.at("vocab").is_array()) type = "Unigram";
  if (type == "BPE") return text::read_bpe(node);
  if (type == "Unigram") return text::read_unigram(node);
  throw text::unsupported_part(node, "tokenizer model", type, {"BPE", "Unigram"});
}

std::vector<text::Merge> read_merges_file(const std::filesystem::path& path) {
  const std::string content = read_text_file(path, text::kMaxTokenizerFileBytes, ErrorKind::model);
  std::vector<text::Merge> merges;
  std::size_t line_number = 0;
  for (std::size_t begin = 0; begin < content.size();) {
    const std::size_t end = std::min(content.find('\n', begin), content.size());
    std::string_view line = std::string_view(content).substr(begin, end - begin);
    begin = end + 1;
    ++line_number;
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.starts_with("#version") || line.empty()) continue;
    const std::size_t space = line.find(' ');
    if (space == line.npos || line.find(' ', space + 1) != line.npos)
      throw InputError(ErrorKind::model, path.string() + ": line " + std::to_string(line_number) + " is no merge",
                       "a merge is two tokens with a space between them");
    merges.push_back({std::string(line.substr(0, space)), std::string(line.substr(space + 1))});
  }
  return merges;
}

text::Vocabulary read_vocabulary_file(const std::filesystem::path& path) {
  const JsonNode root = text::parse_bounded(path);
  text::expect_spread(root);
  text::Vocabulary vocabulary;
  vocabulary.reserve(root.size());
  root.for_each_member([&](const std::string& token, const JsonNode& id) { vocabulary.emplace(token, id.as_int()); });
  return vocabulary;
}

/// Where a tokenizer.json says how texts are cut.
constexpr const char* kStepKeys[] = {"normalizer", "pre_tokenizer", "decoder"};

InputError unknown_class(const std::filesystem::path& folder, const text::ChosenClass& chosen) {
  const std::string named = chosen.from.empty() ? "no file says"
                            : chosen.name.empty()
                                ? chosen.from + " names no class that reads them"
                                : "'" + text::shown(chosen.name) + "' by " + chosen.from + " is none of those known";
  return InputError(ErrorKind::model,
                    folder.string() + ": vocab.json and merges.txt alone do not say how texts are cut before them",
                    "the tokenizer's class would, but " + named,
                    "Make a tokenizer.json of them: transformers' AutoTokenizer.from_pretrained(...) and then "
                    "save_pretrained(...). Prompts may be given as input_ids instead.");
}

/// added_tokens of a tokenizer.json.
std::vector<NumberedToken> read_added_tokens(const JsonNode& root) {
  std::vector<NumberedToken> tokens;
  if (const auto node = root.find("added_tokens"))
    node->for_each([&](const JsonNode& token) {
      tokens.push_back({token.has("id") ? text::read_token_id(token.at("id")) : -1, text::read_added_token(token),
                        "tokenizer.json"});
    });
  return tokens;
}

std::vector<AddedToken> without_ids(const std::vector<NumberedToken>& numbered) {
  std::vector<AddedToken> tokens;
  for (const NumberedToken& token : numbered) tokens.push_back(token.token);
  return tokens;
}

bool has_byte_level(const Json& step) {
  if (step.is_object()) {
    if (step.contains("type") && step["type"] == Json("ByteLevel")) return true;
    for (const char* list : {"pretokenizers", "normalizers", "decoders"})
      if (step.contains(list) && has_byte_level(step[list])) return true;
  }
  return step.is_array() && std::any_of(step.begin(), step.end(), has_byte_level);
}

/// The ByteLevel of a pre-tokenizer, alone or in a sequence; null if there is none.
Json* find_byte_level(Json& pre_tokenizer) {
  if (!pre_tokenizer.is_object()) return nullptr;
  if (pre_tokenizer.contains("type") && pre_tokenizer["type"] == Json("ByteLevel")) return &pre_tokenizer;
  if (!pre_tokenizer.contains("pretokenizers") || !pre_tokenizer["pretokenizers"].is_array()) return nullptr;
  for (Json& part : pre_tokenizer["pretokenizers"])
    if (Json* const found = find_byte_level(part)) return found;
  return nullptr;
}

const char* yes_or_no(bool value) { return value ? "true" : "false"; }

/// Ids that a file gives and the tokenizer does not.
void warn_of_other_ids(const std::vector<NumberedToken>& numbered, const text::AddedTokens& tokens,
                       std::vector<std::string>& warnings) {
  std::int64_t num_others = 0;
  std::string first;
  for (const auto& [id, token, file] : numbered) {
    const auto counts = tokens.find_id(token.content);
    if (id < 0 || !counts || *counts == id || num_others++ > 0) continue;
    first = file + " gives '" + text::shown(token.content) + "' the id " + std::to_string(id) +
            ", its place among all " + "tokens the id " + std::to_string(*counts) + ", which counts";
  }
  if (num_others > 1) first += " (so with " + std::to_string(num_others - 1) + " more)";
  if (num_others > 0) warnings.push_back(first);
}

/// What in tokenizer_config.json asks for other ids and is not followed, or is not supported.
void expect_plain_settings(const TokenizerFiles& files) {
  if (!files.find_flag("split_special_tokens").value_or(false)) return;
  throw files.config->node.at("split_special_tokens")
      .error("special tokens that are to be cut like text are not supported", "", text::input_ids_suggestion);
}

/// add_bos_token and add_eos_token beside a tokenizer.json, whose post-processor counts.
void warn_of_post_processor(const TokenizerFiles& files, const text::PostProcessor& post_processor,
                            std::vector<std::string>& warnings) {
  const auto compare = [&](const char* key, bool puts, const char* where) {
    const auto flag = files.find_flag(key);
    if (!flag || *flag == puts) return;
    warnings.push_back(std::string(key) + " is " + yes_or_no(*flag) +
                       " in tokenizer_config.json, but tokenizer.json puts " + (puts ? "a token " : "nothing ") +
                       where + " a text, which counts, as in transformers 5 (some classes of transformers 4 follow " +
                       key + ")");
  };
  compare("add_bos_token", !post_processor.ids_before().empty(), "before");
  compare("add_eos_token", !post_processor.ids_after().empty(), "after");
}

std::vector<std::int64_t> first_of(std::vector<std::int64_t> ids) {
  ids.resize(std::min(ids.size(), TokenizerChoice::kMostIds));
  return ids;
}

}  // namespace

Json TokenizerChoice::to_json() const {
  Json json = {{"kind", kind},
               {"files", files},
               {"tokens_added", num_tokens_added},
               {"ids_before", ids_before},
               {"ids_after", ids_after}};
  if (!class_name.empty()) json["class"] = class_name;
  if (!class_from.empty()) json["class_from"] = class_from;
  if (!warnings.empty()) json["warnings"] = warnings;
  return json;
}

void Tokenizer::Pipeline::finish(const TokenizerFiles& files) {
  num_ids = 1 + std::max({model->largest_id(), added_tokens->largest_id(), post_processor.largest_id()});
  const bool is_byte_level =
      (normalizer && normalizer->is_byte_level()) || (pre_tokenizer && pre_tokenizer->is_byte_level());
  const std::int64_t num_tokens = model->vocabulary_size() + added_tokens->num_new();
  choice.kind = (is_byte_level ? "byte-level " : "") + model->kind() + ", " + std::to_string(num_tokens) + " tokens";
  choice.ids_before = first_of(post_processor.ids_before());
  choice.ids_after = first_of(post_processor.ids_after());
  if (files.config) choice.files.push_back("tokenizer_config.json");
  if (files.special_tokens) choice.files.push_back("special_tokens_map.json");
  if (files.added_tokens) choice.files.push_back("added_tokens.json");
}

void Tokenizer::Pipeline::add_tokens(const SpecialTokens& special, const std::vector<NumberedToken>& in_tokenizer_json,
                                     const TokenizerClass* tokenizer_class, const std::filesystem::path& document) {
  std::vector<AddedToken> tokens = without_ids(in_tokenizer_json);
  tokens.insert(tokens.end(), special.to_add.begin(), special.to_add.end());
  if (tokenizer_class != nullptr && tokenizer_class->plain_special_tokens)
    for (const auto& content : special.contents) tokens.push_back(AddedToken::special_text(content));
  try {
    added_tokens = std::make_unique<text::AddedTokens>(tokens, *model, normalizer.get());
  } catch (const InputError& error) {
    throw error.in(document.string());
  }
  std::set<std::string_view> contents;
  for (const NumberedToken& numbered : in_tokenizer_json)
    if (!numbered.token.content.empty()) contents.insert(numbered.token.content);
  choice.num_tokens_added = added_tokens->size() - static_cast<std::int64_t>(contents.size());
  choice.warnings.insert(choice.warnings.end(), special.warnings.begin(), special.warnings.end());
  std::vector<NumberedToken> numbered = special.numbered;
  numbered.insert(numbered.end(), in_tokenizer_json.begin(), in_tokenizer_json.end());
  warn_of_other_ids(numbered, *added_tokens, choice.warnings);
}

/// The pre-tokenizer of a tokenizer.json. Whether it puts a space first is the configuration's to say where
/// transformers makes it anew of its class.
void Tokenizer::Pipeline::read_pre_tokenizer(const JsonNode& root, const TokenizerFiles& files,
                                             const TokenizerClass* tokenizer_class) {
  const auto node = root.find("pre_tokenizer");
  if (!node) return;
  Json copy = node->json();
  Json* const byte_level = find_byte_level(copy);
  const bool in_file = byte_level != nullptr && byte_level->value("add_prefix_space", Json(true)) != Json(false);
  const bool in_config = files.find_flag("add_prefix_space").value_or(false);
  const bool is_told = tokenizer_class != nullptr || (byte_level == &copy && files.config);
  if (byte_level == nullptr || in_file == in_config || !is_told) {
    pre_tokenizer = text::read_pre_tokenizer(*node);
    return;
  }
  const std::string both = std::string("add_prefix_space is ") + yes_or_no(in_file) + " in tokenizer.json and " +
                           yes_or_no(in_config) + " in tokenizer_config.json" +
                           (files.find_flag("add_prefix_space") ? "" : ", which does not name it");
  if (tokenizer_class == nullptr) {
    choice.warnings.push_back(both + "; the former counts, as in transformers 5 (transformers 4: the latter)");
    pre_tokenizer = text::read_pre_tokenizer(*node);
    return;
  }
  choice.warnings.push_back(both + "; the latter counts, as for every " + std::string(tokenizer_class->name) +
                            " in transformers 5");
  (*byte_level)["add_prefix_space"] = in_config;
  pre_tokenizer = text::read_pre_tokenizer(JsonNode::of(std::move(copy), root.document(), ErrorKind::model));
}

std::unique_ptr<const Tokenizer::Pipeline> Tokenizer::Pipeline::read_tokenizer_json(const TokenizerFiles& files) {
  const std::filesystem::path path = files.folder / "tokenizer.json";
  const JsonNode root = text::parse_bounded(path);
  // Truncation and padding are settings for batches, which transformers switches off, too; the decoder goes from ids to
  // text.
  root.expect_only_keys({"version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer",
                         "post_processor", "decoder", "model"});
  expect_plain_settings(files);
  auto pipeline = std::make_unique<Pipeline>();
  TokenizerChoice& choice = pipeline->choice;
  choice.files = {"tokenizer.json"};
  const Json& json = root.json();
  const bool is_byte_level = std::any_of(std::begin(kStepKeys), std::end(kStepKeys), [&](const char* key) {
    return json.contains(key) && has_byte_level(json[key]);
  });
  text::ChosenClass chosen = text::choose_class(files, is_byte_level);
  choice.warnings = std::move(chosen.warnings);
  const TokenizerClass* tokenizer_class = text::find_tokenizer_class(chosen.name);
  if (tokenizer_class != nullptr)
    if (const std::string misfit = text::find_class_misfit(*tokenizer_class, files, root); !misfit.empty()) {
      choice.warnings.push_back("tokenizer.json is another tokenizer than " + chosen.name + " (" + chosen.from +
                                ") by " + misfit + "; tokenizer.json counts, as in transformers 4 (transformers 5 " +
                                "puts the class's in its place)");
      tokenizer_class = nullptr;
    }
  if (tokenizer_class != nullptr) {
    choice.class_name = chosen.name;
    choice.class_from = chosen.from;
  }

  if (const auto node = root.find("normalizer")) pipeline->normalizer = text::read_normalizer(*node);
  pipeline->read_pre_tokenizer(root, files, tokenizer_class);
  if (const auto node = root.find("post_processor")) pipeline->post_processor = text::PostProcessor::read(*node);
  pipeline->model = read_model(root.at("model"));
  const std::vector<NumberedToken> in_file = read_added_tokens(root);
  pipeline->add_tokens(text::read_special_tokens(files, in_file, tokenizer_class), in_file, tokenizer_class, path);
  warn_of_post_processor(files, pipeline->post_processor, choice.warnings);
  const text::PostProcessor& puts = pipeline->post_processor;
  const bool puts_any = !puts.ids_before().empty() || !puts.ids_after().empty();
  if (tokenizer_class != nullptr && puts_any && tokenizer_class->drops_post_processor)
    choice.warnings.push_back("tokenizer.json puts tokens around a text, which counts (" + chosen.name +
                              " of transformers 5 puts none)");
  if (tokenizer_class != nullptr && !puts_any && tokenizer_class->puts_cls_and_sep)
    choice.warnings.push_back("tokenizer.json puts no tokens around a text, which counts (" + chosen.name +
                              " of transformers 5 puts cls_token and sep_token)");
  pipeline->finish(files);
  return pipeline;
}

std::unique_ptr<const Tokenizer::Pipeline> Tokenizer::Pipeline::read_vocab_and_merges(const TokenizerFiles& files) {
  const std::filesystem::path& folder = files.folder;
  expect_plain_settings(files);
  text::ChosenClass chosen = text::choose_class(files, /*is_byte_level=*/false);
  const TokenizerClass* const tokenizer_class = text::find_tokenizer_class(chosen.name);
  if (tokenizer_class == nullptr || !tokenizer_class->reads_vocab_and_merges) throw unknown_class(folder, chosen);
  auto pipeline = std::make_unique<Pipeline>();
  pipeline->choice.files = {"vocab.json", "merges.txt"};
  pipeline->choice.class_name = chosen.name;
  pipeline->choice.class_from = chosen.from;
  pipeline->choice.warnings = std::move(chosen.warnings);
  pipeline->model =
      std::make_unique<text::Bpe>(read_vocabulary_file(folder / "vocab.json"), read_merges_file(folder / "merges.txt"),
                                  text::BpeOptions{}, (folder / "merges.txt").string());
  const text::ClassPipeline steps = text::pipeline_of(*tokenizer_class, files);
  if (!steps.normalizer.is_null())
    pipeline->normalizer = text::read_normalizer(JsonNode::of(steps.normalizer, folder.string(), ErrorKind::model));
  pipeline->pre_tokenizer =
      text::read_pre_tokenizer(JsonNode::of(steps.pre_tokenizer, folder.string(), ErrorKind::model));
  const SpecialTokens special = text::read_special_tokens(files, {}, tokenizer_class);
  pipeline->add_tokens(special, {}, tokenizer_class, folder);
  const auto ids_of = [&](bool wanted, const std::optional<std::string>& token) -> std::vector<std::int64_t> {
    const auto id = wanted && token ? pipeline->added_tokens->find_id(*token) : std::nullopt;
    if (!id) return {};
    return {*id};
  };
  const bool puts_both = tokenizer_class->puts_cls_and_sep;
  pipeline->post_processor =
      puts_both ? text::PostProcessor(ids_of(true, special.classifier), ids_of(true, special.separator))
                : text::PostProcessor(ids_of(files.find_flag("add_bos_token").value_or(false), special.begin),
                                      ids_of(files.find_flag("add_eos_token").value_or(false), special.end));
  pipeline->finish(files);
  return pipeline;
}

}  // namespace spectrace
