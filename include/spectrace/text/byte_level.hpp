#pragma once

#include <array>
#include <string>
#include <string_view>

namespace spectrace::text {

/// GPT-2's map from bytes to printable characters, as UTF-8 of one or two bytes each (space becomes U+0120).
const std::array<std::string, 256>& byte_level_characters();

/// Appends the characters of all bytes of `bytes`.
void append_byte_level(std::string& text, std::string_view bytes);

}  // namespace spectrace::text
