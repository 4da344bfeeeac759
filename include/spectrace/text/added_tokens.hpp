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
  bool special = false;

  /// What transformers makes of a bare text that configurations name as a special token.
  static AddedToken special_text(std::string content);
  bool operator==(const AddedToken&) const = default;
};

/// Reads {"content": ..., "lstrip": ..., ...}; what is not given is false, but `normalized`, which is `special`'s
/// opposite then (PyPI tokenizers' AddedToken).
AddedToken read_added_token(const JsonNode& node);

/// The tokens that a tokenizer's files list beside its model's, and how they are found (tokenizers' AddedVocabulary).
class AddedTokens {
 public:
  /// Ids are given as PyPI tokenizers gives them, whatever a file says: a token the model has keeps the model's id, the
  /// others get the one after the largest id among added tokens, or the model's vocabulary size if that is larger. Of a
  /// token that is listed twice the later flags count. Where the normalizer makes two tokens equal, special ones come
  /// before the others and the first counts (PyPI tokenizers 0.22; 0.23 takes one at random).
  AddedTokens(const std::vector<AddedToken>& tokens, const TokenModel& model, const Normalizer* normalizer);

  /// Cuts the prompt at added tokens, normalizes what is between them, and cuts that again. Pieces view `work`'s arena.
  std::vector<Piece> extract_and_normalize(std::string_view prompt, const Normalizer* normalizer,
                                           Workspace& work) const;

  std::optional<std::int64_t> find_id(std::string_view content) const;
  std::int64_t largest_id() const { return largest_id_; }
  std::int64_t size() const { return static_cast<std::int64_t>(entries_.size()); }
  /// How many of the tokens the model does not have itself.
  std::int64_t num_new() const { return num_new_; }

 private:
  struct Entry {
    AddedToken token;
    std::int64_t id;
  };
  void build_tries(const Normalizer* normalizer);
  void cut(const ByteTrie& trie, const Piece& whole, std::vector<Piece>& pieces) const;

  std::vector<Entry> entries_;
  std::map<std::string, std::int64_t, std::less<>> places_;  // content -> place in entries_
  ByteTrie raw_trie_{{}}, normalized_trie_{{}};              // values: places in entries_
  std::int64_t largest_id_ = -1, num_new_ = 0;
};

}  // namespace spectrace::text
