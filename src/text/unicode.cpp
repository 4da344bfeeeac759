#include "spectrace/text/unicode.hpp"

#include <utf8proc.h>

#include <algorithm>
#include <span>
#include <vector>

#include "spectrace/core/error.hpp"
#include "spectrace/text/utf8.hpp"
#include "unicode_tables.hpp"

namespace spectrace::text {
namespace {

bool contains(std::span<const CodePointRange> table, char32_t c) {
  const auto after = std::upper_bound(table.begin(), table.end(), c,
                                      [](char32_t value, const CodePointRange& range) { return value < range.first; });
  return after != table.begin() && c <= std::prev(after)->last;
}

/// The largest code point that no form changes, on its own or beside others below it.
char32_t last_unchanged(NormalizationForm form) {
  switch (form) {
    case NormalizationForm::nfc: return 0x2FF;
    case NormalizationForm::nfd: return 0xBF;
    case NormalizationForm::nfkc: return 0x9F;
    case NormalizationForm::nfkd: return 0x9F;
  }
  return 0;
}

bool is_unchanged(std::string_view text, NormalizationForm form) {
  const char32_t last = last_unchanged(form);
  for (std::size_t i = 0; i < text.size();) {
    const auto [c, size] = decode_at(text, i);
    if (c > last) return false;
    i += size;
  }
  return true;
}

/// Puts each run of combining characters into the order of their classes. utf8proc's own sort is quadratic in the run's
/// length, which a hostile text can make as long as itself.
void reorder(std::vector<utf8proc_int32_t>& characters) {
  const auto combining_class = [](utf8proc_int32_t c) { return utf8proc_get_property(c)->combining_class; };
  const auto is_starter = [&](utf8proc_int32_t c) { return combining_class(c) == 0; };
  for (auto begin = characters.begin(); begin != characters.end();) {
    begin = std::find_if_not(begin, characters.end(), is_starter);
    const auto end = std::find_if(begin, characters.end(), is_starter);
    std::stable_sort(begin, end, [&](auto a, auto b) { return combining_class(a) < combining_class(b); });
    begin = end;
  }
}

/// Normalizes a run without inert characters and appends it.
void flush(std::vector<utf8proc_int32_t>& characters, NormalizationForm form, std::string& result) {
  reorder(characters);
  auto size = static_cast<utf8proc_ssize_t>(characters.size());
  if (form == NormalizationForm::nfc || form == NormalizationForm::nfkc) {
    const auto options = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    size = utf8proc_normalize_utf32(characters.data(), size, options);
    SPECTRACE_ASSERT(size >= 0);
  }
  for (utf8proc_ssize_t i = 0; i < size; ++i)
    append_utf8(result, static_cast<char32_t>(characters[static_cast<std::size_t>(i)]));
  characters.clear();
}

}  // namespace

bool is_white_space(char32_t c) {
  if (c < 0x80) return c == ' ' || (c >= 0x9 && c <= 0xD);
  return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 ||
         c == 0x202F || c == 0x205F || c == 0x3000;
}

bool is_numeric(char32_t c) {
  if (c < 0x80) return c >= '0' && c <= '9';
  return contains(numeric_table, c);
}

bool is_punctuation(char32_t c) { return contains(punctuation_table, c); }

bool is_combining_mark(char32_t c) { return c >= 0x300 && contains(combining_mark_table, c); }

bool is_word(char32_t c) {
  if (c < 0x80) return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
  return contains(word_table, c);
}

void append_lowercase(std::string& text, char32_t c) {
  if (c < 0x80) {
    text += static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
    return;
  }
  if (c == 0x130) {  // the only letter whose lowercase form is two characters
    text += "i\u0307";
    return;
  }
  const auto after = std::upper_bound(lowercase_table.begin(), lowercase_table.end(), c,
                                      [](char32_t value, const LowercaseRun& run) { return value < run.first; });
  if (after != lowercase_table.begin()) {
    const LowercaseRun& run = *std::prev(after);
    if (c <= run.last && (c - run.first) % static_cast<char32_t>(run.stride) == 0)
      c = static_cast<char32_t>(static_cast<std::int32_t>(c) + run.delta);
  }
  append_utf8(text, c);
}

std::string normalize(std::string_view text, NormalizationForm form) {
  if (is_unchanged(text, form)) return std::string(text);
  int options = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE;
  if (form == NormalizationForm::nfkc || form == NormalizationForm::nfkd) options |= UTF8PROC_COMPAT;

  std::string result;
  result.reserve(text.size());
  std::vector<utf8proc_int32_t> run;  // decomposed characters since the last inert one
  for (std::size_t i = 0; i < text.size();) {
    const auto [c, size] = decode_at(text, i);
    i += size;
    if (contains(inert_table, c)) {
      flush(run, form, result);
      append_utf8(result, c);
      continue;
    }
    utf8proc_int32_t parts[32];  // the longest decomposition has 18 characters (U+FDFA)
    const auto num_parts = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c), parts, 32,
                                                   static_cast<utf8proc_option_t>(options), nullptr);
    SPECTRACE_ASSERT(num_parts > 0 && num_parts <= 32);
    run.insert(run.end(), parts, parts + num_parts);
  }
  flush(run, form, result);
  return result;
}

}  // namespace spectrace::text
