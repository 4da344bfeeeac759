#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "spectrace/core/json.hpp"
#include "spectrace/text/byte_trie.hpp"
#include "spectrace/text/token_model.hpp"
#include "spectrace/text/word_cache.hpp"

namespace spectrace::text {

struct UnigramPiece {
  std::string token;
  double score;  ///< log probability
};

/// The segmentation with the best sum of scores (Kudo 2018), as PyPI tokenizers finds it: a piece's id is its place in
/// the list, a character of no piece costs 10 more than the worst piece, and unknown characters in a row are one token.
class Unigram : public TokenModel {
 public:
  Unigram(std::vector<UnigramPiece> pieces, std::optional<std::size_t> unknown_id, bool byte_fallback);

  void encode(std::string_view piece, std::vector<std::int64_t>& ids) const override;
  std::optional<std::int64_t> find_id(std::string_view token) const override;
  std::int64_t vocabulary_size() const override;
  std::int64_t largest_id() const override { return vocabulary_size() - 1; }
  std::string kind() const override;

 private:
  /// The tokens' texts, from the last to the first.
  std::vector<std::string_view> best_segmentation_reversed(std::string_view piece) const;
  void append_token(std::string_view token, std::vector<std::int64_t>& ids) const;

  std::vector<double> scores_;  // [number of pieces]
  Vocabulary vocabulary_;
  ByteTrie trie_;
  std::optional<std::size_t> unknown_id_;
  double unknown_score_ = 0;
  bool byte_fallback_;
  std::vector<std::optional<std::int64_t>> byte_tokens_;
  mutable WordCache cache_;
};

/// @throws InputError (the document's kind) naming what is wrong or not supported.
std::unique_ptr<const TokenModel> read_unigram(const JsonNode& model);

}  // namespace spectrace::text
