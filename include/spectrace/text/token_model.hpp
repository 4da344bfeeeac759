#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "spectrace/core/json.hpp"

namespace spectrace::text {

struct StringHash {
  using is_transparent = void;
  std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
};

/// Token texts and their ids.
using Vocabulary = std::unordered_map<std::string, std::int64_t, StringHash, std::equal_to<>>;

/// @throws InputError (the document's kind) if the texts, the keys of an object or the first elements of a list's
/// lists, are made to share the places of a hash table: a Vocabulary of them would take the square of their number.
void expect_spread(const JsonNode& texts);

/// The `model` of a tokenizer.json: turns one piece of text into tokens.
class TokenModel {
 public:
  virtual ~TokenModel() = default;
  /// Appends the ids of a piece's tokens. @throws InputError (prompt) if the piece has no tokens and there is none for
  /// the unknown.
  virtual void encode(std::string_view piece, std::vector<std::int64_t>& ids) const = 0;
  virtual std::optional<std::int64_t> find_id(std::string_view token) const = 0;
  virtual std::int64_t vocabulary_size() const = 0;
  virtual std::int64_t largest_id() const = 0;
  /// For people: "byte-fallback BPE".
  virtual std::string kind() const = 0;
};

/// The ids of "<0x00>" to "<0xFF>" where the vocabulary has them.
std::vector<std::optional<std::int64_t>> find_byte_tokens(const Vocabulary& vocabulary);

}  // namespace spectrace::text
