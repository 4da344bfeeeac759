#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace spectrace::text {

struct CodePointRange {
  char32_t first, last;
};

/// Every stride-th code point from first to last has its lowercase form `delta` further.
struct LowercaseRun {
  char32_t first, last;
  std::int32_t stride, delta;
};

/// Code points that a general category or script gained after Unicode 14, which PCRE2 10.42 knows.
struct PropertyRange {
  std::string_view property;
  char32_t first, last;
};

// In the order of the code points (added_property_table: per property).
extern const std::span<const CodePointRange> numeric_table;
extern const std::span<const CodePointRange> punctuation_table;
extern const std::span<const CodePointRange> combining_mark_table;
extern const std::span<const CodePointRange> word_table;
extern const std::span<const CodePointRange> inert_table;
extern const std::span<const LowercaseRun> lowercase_table;
extern const std::span<const PropertyRange> added_property_table;

}  // namespace spectrace::text
