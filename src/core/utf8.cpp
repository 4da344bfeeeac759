#include "spectrace/core/utf8.hpp"

namespace spectrace {
namespace {

struct SequenceShape {
  std::size_t size_bytes;                 // 0: no sequence starts with this byte
  unsigned char second_low, second_high;  // what the second byte may be
};

SequenceShape shape_of(unsigned char lead) {
  if (lead < 0x80) return {1, 0, 0};
  if (lead < 0xC2) return {0, 0, 0};
  if (lead < 0xE0) return {2, 0x80, 0xBF};
  if (lead == 0xE0) return {3, 0xA0, 0xBF};
  if (lead == 0xED) return {3, 0x80, 0x9F};
  if (lead < 0xF0) return {3, 0x80, 0xBF};
  if (lead == 0xF0) return {4, 0x90, 0xBF};
  if (lead < 0xF4) return {4, 0x80, 0xBF};
  if (lead == 0xF4) return {4, 0x80, 0x8F};
  return {0, 0, 0};
}

}  // namespace

std::optional<std::size_t> find_invalid_utf8(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  for (std::size_t i = 0; i < text.size();) {
    const auto shape = shape_of(byte(i));
    if (shape.size_bytes == 0 || i + shape.size_bytes > text.size()) return i;
    if (shape.size_bytes > 1 && (byte(i + 1) < shape.second_low || byte(i + 1) > shape.second_high)) return i;
    for (std::size_t k = 2; k < shape.size_bytes; ++k)
      if ((byte(i + k) & 0xC0) != 0x80) return i;
    i += shape.size_bytes;
  }
  return std::nullopt;
}

}  // namespace spectrace
