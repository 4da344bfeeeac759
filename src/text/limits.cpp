#include "spectrace/text/limits.hpp"

#include <fmt/format.h>

#include "spectrace/text/utf8.hpp"
#include "unsupported.hpp"

namespace spectrace::text {

std::size_t growth_limit(std::size_t text_bytes) { return 32 * text_bytes + (std::size_t{1} << 20); }

InputError grows_too_long() {
  return InputError(ErrorKind::prompt, "the tokenizer's steps make too much of this text",
                    "more than 32 times its length and a megabyte", input_ids_suggestion);
}

std::string shown(std::string_view text) {
  constexpr std::size_t max_bytes = 80;
  std::string result;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if (result.size() >= max_bytes && (byte & 0xC0) != 0x80) return result + "...";
    if (byte < 0x20 || byte == 0x7F) {
      result += fmt::format("\\x{:02X}", byte);
    } else {
      result += text[i];
    }
  }
  return result;
}

}  // namespace spectrace::text
