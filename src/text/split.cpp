#include "spectrace/text/split.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include "unsupported.hpp"

namespace spectrace::text {
namespace {

struct NamedBehavior {
  std::string_view name;
  SplitBehavior behavior;
};

constexpr std::array<NamedBehavior, 5> behaviors{{{"Removed", SplitBehavior::removed},
                                                  {"Isolated", SplitBehavior::isolated},
                                                  {"MergedWithPrevious", SplitBehavior::merged_with_previous},
                                                  {"MergedWithNext", SplitBehavior::merged_with_next},
                                                  {"Contiguous", SplitBehavior::contiguous}}};

/// std::string_view::find is the quicker one, but for a long literal that nearly matches everywhere it takes the
/// product of both lengths; memmem never does.
std::size_t find_first(std::string_view text, std::string_view literal, std::size_t begin) {
  constexpr std::size_t long_bytes = 16;
  if (literal.size() < long_bytes) return text.find(literal, begin);
  const void* const at = ::memmem(text.data() + begin, text.size() - begin, literal.data(), literal.size());
  return at == nullptr ? text.npos : static_cast<std::size_t>(static_cast<const char*>(at) - text.data());
}

}  // namespace

SplitBehavior read_split_behavior(const JsonNode& name) {
  std::vector<std::string_view> names;
  for (const auto& [known, behavior] : behaviors) {
    if (name.as_string() == known) return behavior;
    names.push_back(known);
  }
  throw name.error("the split behavior '" + shown(name.as_string()) + "' is not supported",
                   "supported are " + quoted_list(names), input_ids_suggestion);
}

std::vector<Span> apply_behavior(const std::vector<Span>& spans, SplitBehavior behavior) {
  std::vector<Span> parts;
  parts.reserve(spans.size());
  bool previous_match = false;
  const auto add_or_extend = [&](const Span& span, bool extends) {
    if (extends && !parts.empty()) {
      parts.back().begin = std::min(parts.back().begin, span.begin);
      parts.back().end = std::max(parts.back().end, span.end);
    } else {
      parts.push_back(span);
    }
    previous_match = span.is_match;
  };
  switch (behavior) {
    case SplitBehavior::removed:
      for (const Span& span : spans)
        if (!span.is_match) parts.push_back(span);
      break;
    case SplitBehavior::isolated: parts = spans; break;
    case SplitBehavior::contiguous:
      for (const Span& span : spans) add_or_extend(span, span.is_match == previous_match);
      break;
    case SplitBehavior::merged_with_previous:
      for (const Span& span : spans) add_or_extend(span, span.is_match && !previous_match);
      break;
    case SplitBehavior::merged_with_next:
      for (auto span = spans.rbegin(); span != spans.rend(); ++span)
        add_or_extend(*span, span->is_match && !previous_match);
      std::reverse(parts.begin(), parts.end());
      break;
  }
  return parts;
}

std::vector<Span> find_literal(std::string_view text, std::string_view literal) {
  std::vector<Span> spans;
  std::size_t begin = 0;
  for (std::size_t at = find_first(text, literal, 0); at != text.npos; at = find_first(text, literal, begin)) {
    if (begin < at) spans.push_back({begin, at, false});
    spans.push_back({at, at + literal.size(), true});
    begin = at + literal.size();
  }
  if (begin < text.size()) spans.push_back({begin, text.size(), false});
  return spans;
}

}  // namespace spectrace::text
