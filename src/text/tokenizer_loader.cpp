#include <algorithm>
#include <set>

#include "pipeline.hpp"
#include "spectrace/core/file.hpp"
#include "spectrace/text/bpe.hpp"
#include "spectrace/text/limits.hpp"
#include "spectrace/text/unigram.hpp"
#include "unsupported.hpp"

namespace spectrace {
namespace {

using text::AddedToken;

std::unique_ptr<const text::TokenModel> read_model(const JsonNode& node) {
  // The oldest files do not say their model's type: only BPE has merges, only Unigram a list for a vocabulary.
  std::string type = node.get_string("type", "");
  if (type.empty() && node.has("merges")) type = "BPE";
  if (type.empty() && node.at("vocab").is_array()) type = "Unigram";
  if (type == "BPE") return text::read_bpe(node);
  if (type == "Unigram") return text::read_unigram(node);
  throw text::unsupported_part(node, "tokenizer model", type, {"BPE", "Unigram"});
}

/// A JSON file that is parsed into memory whole.
JsonNode parse_bounded(const std::filesystem::path& path) {
  const std::string text = read_text_file(path, text::kMaxTokenizerFileBytes, ErrorKind::model);
  return JsonNode::parse_text(text, path.string(), ErrorKind::model);
}

/// A special token of tokenizer_config.json or special_tokens_map.json: its text, or an object with its flags.
std::optional<AddedToken> find_special_token(const JsonNode& config, const char* key) {
  const auto node = config.find(key);
  if (!node) return std::nullopt;
  if (node->is_object()) return text::read_added_token(*node);
  AddedToken token;
  token.content = node->as_string();
  token.normalized = false;  // what transformers makes of a bare text
  return token;
}

/// Tokens of different contents: the first of each counts.
class TokenList {
 public:
  void add_unless_there(const std::optional<AddedToken>& token) {
    if (token && !token->content.empty() && contents_.insert(token->content).second) tokens_.push_back(*token);
  }
  const std::vector<AddedToken>& tokens() const { return tokens_; }

 private:
  std::vector<AddedToken> tokens_;
  std::set<std::string> contents_;
};

/// added_tokens_decoder: {"1": {"content": ...}, ...}, in the order of the ids.
std::vector<AddedToken> read_added_tokens_decoder(const JsonNode& config) {
  struct Numbered {
    std::int64_t id;
    AddedToken token;
  };
  std::vector<Numbered> numbered;
  if (const auto decoder = config.find("added_tokens_decoder"))
    decoder->for_each_member([&](const std::string& id, const JsonNode& token) {
      if (id.empty() || id.size() > 9 || id.find_first_not_of("0123456789") != std::string::npos)
        throw decoder->error("the key '" + text::shown(id) + "' is no token's id");
      numbered.push_back({std::stoll(id), text::read_added_token(token)});
    });
  std::sort(numbered.begin(), numbered.end(), [](const Numbered& a, const Numbered& b) { return a.id < b.id; });
  std::vector<AddedToken> tokens;
  for (Numbered& entry : numbered) tokens.push_back(std::move(entry.token));
  return tokens;
}

/// What tokenizer_config.json and special_tokens_map.json say of a GPT-2 or OPT tokenizer.
struct FolderConfig {
  TokenList tokens;
  std::string unknown = "<|endoftext|>", begin = "<|endoftext|>", end = "<|endoftext|>";
  bool add_begin = false, add_end = false, add_prefix_space = false;

  void read(const JsonNode& config) {
    for (AddedToken& token : read_added_tokens_decoder(config)) tokens.add_unless_there(token);
    for (const char* key : {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"})
      tokens.add_unless_there(find_special_token(config, key));
    for (const char* key : {"additional_special_tokens", "extra_special_tokens"}) {
      const auto list = config.find(key);
      if (!list || !list->is_array()) continue;
      list->for_each([&](const JsonNode& token) {
        if (token.is_object()) {
          tokens.add_unless_there(text::read_added_token(token));
        } else {
          AddedToken plain;
          plain.content = token.as_string();
          plain.normalized = false;
          tokens.add_unless_there(plain);
        }
      });
    }
    if (const auto token = find_special_token(config, "unk_token")) unknown = token->content;
    if (const auto token = find_special_token(config, "bos_token")) begin = token->content;
    if (const auto token = find_special_token(config, "eos_token")) end = token->content;
    add_begin = config.get_bool("add_bos_token", add_begin);
    add_end = config.get_bool("add_eos_token", add_end);
    add_prefix_space = config.get_bool("add_prefix_space", add_prefix_space);
  }
};

FolderConfig read_folder_config(const std::filesystem::path& folder) {
  FolderConfig config;
  // The map repeats, without ids, what the config says; where both speak, the config does.
  for (const char* name : {"special_tokens_map.json", "tokenizer_config.json"})
    if (!is_absent(folder / name)) config.read(parse_bounded(folder / name));
  for (const std::string& content : {config.begin, config.end, config.unknown}) {
    AddedToken token;
    token.content = content;
    token.normalized = false;
    config.tokens.add_unless_there(token);
  }
  return config;
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
  const JsonNode root = parse_bounded(path);
  text::expect_spread(root);
  text::Vocabulary vocabulary;
  vocabulary.reserve(root.size());
  root.for_each_member([&](const std::string& token, const JsonNode& id) { vocabulary.emplace(token, id.as_int()); });
  return vocabulary;
}

}  // namespace

void Tokenizer::Pipeline::finish() {
  num_ids = 1 + std::max({model->largest_id(), added_tokens->largest_id(), post_processor.largest_id()});
  const bool is_byte_level =
      (normalizer && normalizer->is_byte_level()) || (pre_tokenizer && pre_tokenizer->is_byte_level());
  const std::int64_t num_tokens = model->vocabulary_size() + added_tokens->num_new();
  description = (is_byte_level ? "byte-level " : "") + model->kind() + ", " + std::to_string(num_tokens) + " tokens";
}

std::unique_ptr<const Tokenizer::Pipeline> Tokenizer::Pipeline::read_tokenizer_json(const std::filesystem::path& path) {
  const JsonNode root = parse_bounded(path);
  // Truncation and padding are settings for batches, which transformers switches off, too; the decoder goes from ids to
  // text.
  root.expect_only_keys({"version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer",
                         "post_processor", "decoder", "model"});
  auto pipeline = std::make_unique<Pipeline>();
  if (const auto node = root.find("normalizer")) pipeline->normalizer = text::read_normalizer(*node);
  if (const auto node = root.find("pre_tokenizer")) pipeline->pre_tokenizer = text::read_pre_tokenizer(*node);
  if (const auto node = root.find("post_processor")) pipeline->post_processor = text::PostProcessor::read(*node);
  pipeline->model = read_model(root.at("model"));
  std::vector<AddedToken> tokens;
  if (const auto node = root.find("added_tokens"))
    node->for_each([&](const JsonNode& token) { tokens.push_back(text::read_added_token(token)); });
  try {
    pipeline->added_tokens = std::make_unique<text::AddedTokens>(tokens, *pipeline->model, pipeline->normalizer.get());
  } catch (const InputError& error) {
    throw error.in(path.string());
  }
  pipeline->finish();
  return pipeline;
}

std::unique_ptr<const Tokenizer::Pipeline> Tokenizer::Pipeline::read_vocab_and_merges(
    const std::filesystem::path& folder) {
  const FolderConfig config = read_folder_config(folder);
  auto pipeline = std::make_unique<Pipeline>();
  pipeline->model =
      std::make_unique<text::Bpe>(read_vocabulary_file(folder / "vocab.json"), read_merges_file(folder / "merges.txt"),
                                  text::BpeOptions{}, (folder / "merges.txt").string());
  pipeline->pre_tokenizer = text::make_gpt2_pre_tokenizer(config.add_prefix_space);
  pipeline->added_tokens = std::make_unique<text::AddedTokens>(config.tokens.tokens(), *pipeline->model, nullptr);
  const auto ids_of = [&](bool wanted, const std::string& token) -> std::vector<std::int64_t> {
    if (!wanted) return {};
    const auto id = pipeline->added_tokens->find_id(token);
    if (!id)
      throw InputError(ErrorKind::model,
                       folder.string() + ": the special token '" + text::shown(token) + "' has no id");
    return {*id};
  };
  pipeline->post_processor =
      text::PostProcessor(ids_of(config.add_begin, config.begin), ids_of(config.add_end, config.end));
  pipeline->finish();
  return pipeline;
}

}  // namespace spectrace
