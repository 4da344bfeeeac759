#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "spectrace/core/json.hpp"
#include "spectrace/text/utf8.hpp"

namespace spectrace::text {

/// A part [begin, end) of a text, in bytes; a pattern's spans cover the text without gaps.
struct Span {
  std::size_t begin, end;
  bool is_match;
};

/// What becomes of the parts that match (tokenizers' SplitDelimiterBehavior). "the-final--countdown" split at "-":
enum class SplitBehavior {
  removed,               ///< the|final|countdown
  isolated,              ///< the|-|final|-|-|countdown
  merged_with_previous,  ///< the-|final-|-|countdown
  merged_with_next,      ///< the|-final|-|-countdown
  contiguous,            ///< the|-|final|--|countdown
};

/// @throws InputError naming what is allowed.
SplitBehavior read_split_behavior(const JsonNode& name);

/// The parts that are left, in order.
std::vector<Span> apply_behavior(const std::vector<Span>& spans, SplitBehavior behavior);

/// Spans of a text where each character that fulfils the predicate is a match of its own.
template <typename Predicate>
std::vector<Span> find_characters(std::string_view text, const Predicate& predicate) {
  std::vector<Span> spans;
  std::size_t begin = 0;
  for (std::size_t i = 0; i < text.size();) {
    const auto [c, size] = decode_at(text, i);
    if (predicate(c)) {
      if (begin < i) spans.push_back({begin, i, false});
      spans.push_back({i, i + size, true});
      begin = i + size;
    }
    i += size;
  }
  if (begin < text.size()) spans.push_back({begin, text.size(), false});
  return spans;
}

/// Spans of a text where each leftmost occurrence of `literal` is a match. @pre literal is not empty
std::vector<Span> find_literal(std::string_view text, std::string_view literal);

}  // namespace spectrace::text
