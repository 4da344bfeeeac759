#pragma once

#include <string>
#include <string_view>

namespace spectrace::text {

// Character classes as PyPI tokenizers has them, whatever Unicode version the system's libraries know.

bool is_white_space(char32_t c);     ///< property White_Space
bool is_numeric(char32_t c);         ///< general category N
bool is_punctuation(char32_t c);     ///< ASCII punctuation or general category P (Unicode 7)
bool is_combining_mark(char32_t c);  ///< general category M (Unicode 9)
bool is_word(char32_t c);            ///< \w of Rust's regex crate

/// Appends the lowercase form of one character, without regard to its neighbours (no final sigma).
void append_lowercase(std::string& text, char32_t c);

enum class NormalizationForm { nfc, nfd, nfkc, nfkd };

/// Unicode normalization (UAX 15) as of Unicode 9: what was assigned later stays as it is and reorders nothing.
/// @pre well-formed UTF-8
std::string normalize(std::string_view text, NormalizationForm form);

}  // namespace spectrace::text
