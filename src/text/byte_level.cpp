#include "spectrace/text/byte_level.hpp"

#include "spectrace/text/utf8.hpp"

namespace spectrace::text {

const std::array<std::string, 256>& byte_level_characters() {
  static const std::array<std::string, 256> characters = [] {
    std::array<std::string, 256> table;
    char32_t next_unprintable = 256;
    for (char32_t byte = 0; byte < 256; ++byte) {
      const bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
      append_utf8(table[byte], printable ? byte : next_unprintable++);
    }
    return table;
  }();
  return characters;
}

void append_byte_level(std::string& text, std::string_view bytes) {
  const auto& characters = byte_level_characters();
  for (const char byte : bytes) text += characters[static_cast<unsigned char>(byte)];
}

}  // namespace spectrace::text
