#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "spectrace/core/json.hpp"
#include "spectrace/text/regex.hpp"

namespace spectrace::text {

/// A text on its way through the normalizers.
struct NormalizedText {
  std::string text;
  /// How many leading bytes stand for the first character of the whole prompt: 0 if this is a later part of it, or if
  /// that character is gone. Metaspace with the scheme "first" asks for it; nothing else needs to know where bytes came
  /// from.
  std::size_t origin_bytes = 0;
  std::size_t max_bytes;  ///< how long the text may become
  PatternEffort& effort;  ///< what patterns may still take

  /// Puts a step's result in its place. @throws InputError (prompt) if it is longer than `max_bytes`
  void replace(std::string new_text, std::size_t new_origin_bytes);
  /// Asked before text is made that may be far longer. @throws InputError (prompt) if `size` is more than `max_bytes`
  void expect_room(std::size_t size) const;
};

/// The `normalizer` of a tokenizer.json: rewrites text before it is split.
class Normalizer {
 public:
  virtual ~Normalizer() = default;
  /// @pre well-formed UTF-8 @throws InputError (prompt) if a pattern gives up or the text grows too long
  virtual void apply(NormalizedText& text) const = 0;
  /// True if it maps bytes to GPT-2's printable characters.
  virtual bool is_byte_level() const { return false; }
};

/// @throws InputError (the document's kind) naming the normalizer that is not supported.
std::unique_ptr<const Normalizer> read_normalizer(const JsonNode& node);

}  // namespace spectrace::text
