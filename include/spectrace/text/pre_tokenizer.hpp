#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "spectrace/core/json.hpp"
#include "spectrace/text/workspace.hpp"

namespace spectrace::text {

/// A part of the prompt: text yet to be turned into tokens, or an added token found in it.
struct Piece {
  std::string_view text;             ///< never empty
  std::size_t origin_bytes = 0;      ///< as in NormalizedText; above 0 exactly where the piece begins with the prompt
  std::optional<std::int64_t> id{};  ///< of the added token
};

/// The `pre_tokenizer` of a tokenizer.json: cuts pieces into smaller ones, which the model turns into tokens one by
/// one.
class PreTokenizer {
 public:
  virtual ~PreTokenizer() = default;
  /// @throws InputError (prompt) if a pattern gives up or the text grows too long.
  virtual void apply(std::vector<Piece>& pieces, Workspace& work) const = 0;
  /// True if it maps bytes to GPT-2's printable characters.
  virtual bool is_byte_level() const { return false; }
};

/// @throws InputError (the document's kind) naming the pre-tokenizer that is not supported.
std::unique_ptr<const PreTokenizer> read_pre_tokenizer(const JsonNode& node);

}  // namespace spectrace::text
