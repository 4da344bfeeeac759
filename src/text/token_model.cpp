#include "spectrace/text/token_model.hpp"

#include <fmt/format.h>

namespace spectrace::text {

std::vector<std::optional<std::int64_t>> find_byte_tokens(const Vocabulary& vocabulary) {
  std::vector<std::optional<std::int64_t>> tokens(256);
  for (std::size_t byte = 0; byte < tokens.size(); ++byte) {
    const auto it = vocabulary.find(fmt::format("<0x{:02X}>", byte));
    if (it != vocabulary.end()) tokens[byte] = it->second;
  }
  return tokens;
}

}  // namespace spectrace::text
