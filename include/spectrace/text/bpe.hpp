#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "spectrace/core/json.hpp"
#include "spectrace/text/token_model.hpp"

namespace spectrace::text {

/// Two tokens that become one, by their texts.
struct Merge {
  std::string left, right;
};

struct BpeOptions {
  std::optional<std::string> unknown_token{};  ///< for a character without tokens; none: it is dropped
  std::string continuing_prefix{};             ///< put before every character but the first, to look it up
  std::string word_suffix{};                   ///< put after the last character
  bool fuse_unknown = false;                   ///< one unknown token for neighbours
  bool byte_fallback = false;                  ///< a character without a token becomes its bytes' tokens <0x..>
  bool ignore_merges = false;                  ///< a piece that is a token is that token, whatever the merges say
};

/// Byte pair encoding (Sennrich et al. 2016), merging in the order of PyPI tokenizers, in n log n.
class Bpe : public TokenModel {
 public:
  /// `merges` in the order of their ranks. @throws InputError (model) if a merge names a token that is not there;
  /// `document` is what it calls the file.
  Bpe(Vocabulary vocabulary, const std::vector<Merge>& merges, BpeOptions options, const std::string& document);
  ~Bpe() override;

  void encode(std::string_view piece, std::vector<std::int64_t>& ids) const override;
  std::optional<std::int64_t> find_id(std::string_view token) const override;
  std::int64_t vocabulary_size() const override;
  std::int64_t largest_id() const override { return largest_id_; }
  std::string kind() const override;

 private:
  struct Tables;
  /// The piece's characters as tokens, unmerged.
  std::vector<std::int64_t> character_tokens(std::string_view piece) const;

  BpeOptions options_;
  std::int64_t largest_id_ = -1;
  std::unique_ptr<Tables> tables_;
};

/// @throws InputError (the document's kind) naming what is wrong or not supported.
std::unique_ptr<const TokenModel> read_bpe(const JsonNode& model);

}  // namespace spectrace::text
