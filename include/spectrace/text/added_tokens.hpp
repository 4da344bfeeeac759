#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "spectrace/core/json.hpp"
#include "spectrace/text/byte_trie.hpp"
#include "spectrace/text/normalizer.hpp"
#include "spectrace/text/pre_tokenizer.hpp"
#include "spectrace/text/token_model.hpp"

namespace spectrace::text {

/// A token found in the text itself, before the model sees it.
struct AddedToken {
  std::string content;
  bool single_word = false;  ///< not beside a word character
  bool strip_left = false;   ///< takes the white space before it
  bool strip_right = false;  ///< takes the white space after it
  bool normalized = true;    ///< looked for, in its normalized form, in the normalized text
};

/// Reads {"content": ..., "lstrip": ..., ...}; what is not given is false, except `normalized`.
AddedToken read_added_token(const JsonNode& node);

/// The tokens that tokenizer.json lists beside its model's, and how they are found (tokenizers' AddedVocabulary).
class AddedTokens {
 public:
  /// Ids are given as PyPI tokenizers gives them when it reads a file: a token the model has keeps the model's id, the
  /// others count up from the model's vocabulary size in the order of the list.
  AddedTokens(const std::vector<AddedToken>& tokens, const TokenModel& model, const Normalizer* normalizer);

  /// Cuts the prompt at added tokens, normalizes what is between them, and cuts that again. Pieces view `work`'s arena.
  std::vector<Piece> extract_and_normalize(std::string_view prompt, const Normalizer* normalizer,
                                           Workspace& work) const;

  std::optional<std::int64_t> find_id(std::string_view content) const;
  std::int64_t largest_id() const { return largest_id_; }
  /// How many of the tokens the model does not have itself.
  std::int64_t num_new() const { return num_new_; }

 private:
  struct Entry {
    AddedToken token;
    std::int64_t id;
  };
  void cut(const ByteTrie& trie, const Piece& whole, std::vector<Piece>& pieces) const;

  std::vector<Entry> entries_;
  std::map<std::string, std::int64_t, std::less<>> places_;  // content -> place in entries_
  ByteTrie raw_trie_{{}}, normalized_trie_{{}};              // values: places in entries_
  std::int64_t largest_id_ = -1, num_new_ = 0;
};

}  // namespace spectrace::text
