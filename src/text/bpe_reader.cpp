#include "spectrace/core/error.hpp"
#include "spectrace/text/bpe.hpp"
#include "unsupported.hpp"

namespace spectrace::text {
namespace {

// These two read hundreds of thousands of values: they use the plain JSON values, which cost no copies.

Vocabulary read_vocabulary(const JsonNode& node) {
  if (!node.is_object()) throw node.error("is not an object of tokens and ids");
  expect_spread(node);
  Vocabulary vocabulary;
  vocabulary.reserve(node.size());
  for (const auto& [token, id] : node.json().items()) {
    if (!id.is_number_integer()) throw node.error("the token '" + shown(token) + "' has the id " + shown(id.dump()));
    vocabulary.emplace(token, id.get<std::int64_t>());
  }
  return vocabulary;
}

std::vector<Merge> read_merges(const JsonNode& node) {
  if (!node.is_array()) throw node.error("is not a list of merges");
  std::vector<Merge> merges;
  merges.reserve(node.size());
  for (const Json& merge : node.json()) {
    if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      merges.push_back({merge[0].get<std::string>(), merge[1].get<std::string>()});
      continue;
    }
    const std::string* text = merge.get_ptr<const std::string*>();
    if (text != nullptr && text->starts_with("#version")) continue;
    const std::size_t space = text == nullptr ? std::string::npos : text->find(' ');
    if (space == std::string::npos || text->find(' ', space + 1) != std::string::npos)
      throw node.error("the merge " + shown(merge.dump()) + " is neither \"left right\" nor [\"left\", \"right\"]", "",
                       input_ids_suggestion);
    merges.push_back({text->substr(0, space), text->substr(space + 1)});
  }
  return merges;
}

/// What is put before or after characters to look them up.
std::string read_affix(const JsonNode& model, const char* key) {
  std::string affix = model.get_string(key, "");
  if (affix.size() > kMaxAffixBytes)
    throw model.at(key).error("is longer than " + std::to_string(kMaxAffixBytes) + " bytes", "", input_ids_suggestion);
  return affix;
}

}  // namespace

std::unique_ptr<const TokenModel> read_bpe(const JsonNode& model) {
  model.expect_only_keys({"type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk",
                          "byte_fallback", "ignore_merges", "vocab", "merges"});
  if (model.get_double("dropout", 0) != 0)
    throw model.error("BPE with dropout is not supported", "its tokens are random", input_ids_suggestion);
  BpeOptions options;
  if (const auto unknown = model.find("unk_token")) options.unknown_token = unknown->as_string();
  options.continuing_prefix = read_affix(model, "continuing_subword_prefix");
  options.word_suffix = read_affix(model, "end_of_word_suffix");
  options.fuse_unknown = model.get_bool("fuse_unk", false);
  options.byte_fallback = model.get_bool("byte_fallback", false);
  options.ignore_merges = model.get_bool("ignore_merges", false);
  return std::make_unique<Bpe>(read_vocabulary(model.at("vocab")), read_merges(model.at("merges")), std::move(options),
                               model.document());
}

}  // namespace spectrace::text
