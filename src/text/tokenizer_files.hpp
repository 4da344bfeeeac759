#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "spectrace/core/json.hpp"

namespace spectrace::text {

/// A JSON object, and its keys in the order of the file, which a Json does not keep: ids follow from it.
struct OrderedJson {
  JsonNode node;
  std::vector<std::string> keys = {};                  ///< of the object
  std::vector<std::string> extra_special_tokens = {};  ///< keys of that member, where it is an object
  bool contains(const char* key) const { return node.json().contains(key); }
};

/// The small files beside tokenizer.json, or beside vocab.json and merges.txt.
struct TokenizerFiles {
  std::filesystem::path folder;
  bool has_tokenizer_json = false, has_vocab_and_merges = false;
  std::optional<OrderedJson> config;                        ///< tokenizer_config.json
  std::optional<OrderedJson> special_tokens;                ///< special_tokens_map.json
  std::optional<OrderedJson> added_tokens;                  ///< added_tokens.json
  std::string model_type = {}, model_tokenizer_class = {};  ///< of config.json

  /// @throws InputError (model) if one of them is no JSON object, (io) if it cannot be read.
  static TokenizerFiles read(const std::filesystem::path& folder);
  /// A flag of tokenizer_config.json; nothing where it is absent or null.
  std::optional<bool> find_flag(const char* key) const;
};

/// A file of a tokenizer within kMaxTokenizerFileBytes. @throws InputError (model, io).
JsonNode parse_bounded(const std::filesystem::path& path);

}  // namespace spectrace::text
