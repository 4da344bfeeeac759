#include "spectrace/text/token_model.hpp"

#include <fmt/format.h>

#include "unsupported.hpp"

namespace spectrace::text {

void expect_spread(const JsonNode& texts) {
  constexpr std::uint16_t most = 1000;  // a handful, unless someone tries
  Vocabulary sized;
  sized.reserve(texts.size());
  const std::size_t num_places = sized.bucket_count();
  std::vector<std::uint16_t> counts(num_places);
  const auto count = [&](const std::string& text) {
    if (++counts[StringHash()(text) % num_places] > most)
      throw texts.error("the vocabulary is not supported",
                        "more than " + std::to_string(most) + " of its tokens share a place of a hash table",
                        input_ids_suggestion);
  };
  if (texts.is_object()) {
    for (const auto& [text, value] : texts.json().items()) count(text);
  } else {
    for (const Json& entry : texts.json()) count(entry[0].get_ref<const std::string&>());
  }
}

std::vector<std::optional<std::int64_t>> find_byte_tokens(const Vocabulary& vocabulary) {
  std::vector<std::optional<std::int64_t>> tokens(256);
  for (std::size_t byte = 0; byte < tokens.size(); ++byte) {
    const auto it = vocabulary.find(fmt::format("<0x{:02X}>", byte));
    if (it != vocabulary.end()) tokens[byte] = it->second;
  }
  return tokens;
}

}  // namespace spectrace::text
