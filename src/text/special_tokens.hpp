#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "spectrace/text/added_tokens.hpp"
#include "tokenizer_class.hpp"
#include "tokenizer_files.hpp"

namespace spectrace::text {

/// An added token and the id that a file gives it.
struct NumberedToken {
  std::int64_t id;
  AddedToken token;
  std::string file;  ///< for messages
};

/// The tokens that a folder's files name beside its vocabulary, as transformers 5.23 puts them together
/// (PreTrainedTokenizerBase._from_pretrained and its __init__, TokenizersBackend.__init__): added_tokens_decoder of
/// tokenizer_config.json, or where that has none added_tokens.json and special_tokens_map.json; then bos_token and the
/// like; then lists of others.
struct SpecialTokens {
  std::vector<NumberedToken> numbered;  ///< in the order of their ids
  std::vector<AddedToken> to_add;       ///< after those of tokenizer.json; the numbered ones first
  std::optional<std::string> begin, end, separator, classifier;  ///< bos_token, eos_token, sep_token, cls_token
  std::vector<std::string> contents;                             ///< of all special tokens, named ones first
  std::vector<std::string> warnings;
};

/// `in_tokenizer_json` are its added tokens, with its ids; `tokenizer_class` (or null) has defaults.
/// @throws InputError (model) naming file and key.
SpecialTokens read_special_tokens(const TokenizerFiles& files, const std::vector<NumberedToken>& in_tokenizer_json,
                                  const TokenizerClass* tokenizer_class);

/// The id at `node`, from 0 to kMaxTokenId. @throws InputError (the document's kind).
std::int64_t read_token_id(const JsonNode& node);

}  // namespace spectrace::text
