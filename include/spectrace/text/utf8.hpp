#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "spectrace/core/utf8.hpp"

namespace spectrace::text {

using spectrace::find_invalid_utf8;

struct DecodedCodePoint {
  char32_t value;
  std::size_t size_bytes;
};

/// The code point that starts at `offset`. @pre well-formed UTF-8, offset at a code point's start
inline DecodedCodePoint decode_at(std::string_view text, std::size_t offset) {
  const auto byte = [&](std::size_t i) { return static_cast<char32_t>(static_cast<unsigned char>(text[offset + i])); };
  const char32_t lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  if (lead < 0xE0) return {(lead & 0x1F) << 6 | (byte(1) & 0x3F), 2};
  if (lead < 0xF0) return {(lead & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F), 3};
  return {(lead & 0x07) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 | (byte(3) & 0x3F), 4};
}

/// The code point that ends before `end`. @pre well-formed UTF-8, end > 0
inline DecodedCodePoint decode_before(std::string_view text, std::size_t end) {
  std::size_t begin = end - 1;
  while ((static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80) --begin;
  return decode_at(text, begin);
}

void append_utf8(std::string& text, char32_t code_point);

/// True if every byte is below 0x80.
bool is_ascii(std::string_view text);

}  // namespace spectrace::text
