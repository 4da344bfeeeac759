#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

namespace spectrace::text {

/// A regular expression that the translation does not understand; what() says which part.
class UnsupportedPattern : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The PCRE2 pattern (for PCRE2_UTF, PCRE2_UCP, PCRE2_MULTILINE, newline LF) that matches what Oniguruma's default
/// syntax, which PyPI tokenizers uses, matches with `pattern`. The two differ: `\s`, `\w`, `\h`, `\v` and `\b` mean
/// other characters,
/// `(?m)` lets the dot match newlines, `x{1,3}+` is no possessive quantifier, brackets nest inside brackets, and the
/// Unicode versions are not the same.
/// @throws UnsupportedPattern for what is neither translated nor the same in both: nothing is passed on unread.
std::string translate_oniguruma(std::string_view pattern);

}  // namespace spectrace::text
