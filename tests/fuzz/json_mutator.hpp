#pragma once

#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "spectrace/core/json.hpp"

namespace spectrace {

/// Changes the tree of a JSON text, so that what comes out is JSON still and gets behind the parser: values of other
/// types, sizes and places, nesting, repetition, what is missing. The same way in every run.
class JsonMutator {
 public:
  explicit JsonMutator(std::uint64_t seed) : random_(seed) {}

  /// Nothing where the bytes are no JSON.
  std::optional<std::string> mutate(std::string_view bytes) {
    Json root = Json::parse(bytes, nullptr, /*allow_exceptions=*/false);
    if (root.is_discarded()) return std::nullopt;
    for (std::uint64_t changes = 1 + below(3); changes > 0; --changes) {
      std::vector<Json*> values;
      collect(root, values);
      change(*values[below(values.size())], *values[below(values.size())]);
    }
    return root.dump(-1, ' ', false, Json::error_handler_t::replace);
  }

 private:
  std::uint64_t below(std::uint64_t bound) { return random_() % bound; }

  /// Every value, of long lists and objects a few: else nearly all changes fell on the vocabulary.
  void collect(Json& value, std::vector<Json*>& values) {
    values.push_back(&value);
    if (!value.is_structured()) return;
    const std::size_t stride = 1 + value.size() / 16;
    std::size_t place = below(stride);
    for (auto it = value.begin(); it != value.end(); ++it)
      if (place++ % stride == 0) collect(*it, values);
  }

  void change(Json& value, const Json& other) {
    switch (below(10)) {
      case 0: value = Json(other); break;  // a copy: `other` may lie inside of `value`
      case 1: value = extreme(); break;
      case 2: value = Json::array({value}); break;
      case 3: {
        const char* keys[] = {"normalizers", "pretokenizers", "processors", "decoders"};
        for (std::uint64_t depth = 1 + below(40); depth > 0; --depth)
          value = Json{{"type", "Sequence"}, {keys[below(4)], Json::array({value})}};
        break;
      }
      case 4:
        if (value.is_structured() && !value.empty()) {
          auto member = value.begin();
          std::advance(member, static_cast<std::ptrdiff_t>(below(value.size())));
          value.erase(member);
        }
        break;
      case 5:
        if (value.is_array() && !value.empty()) {
          const Json element = value[below(value.size())];
          for (std::uint64_t copies = std::uint64_t{1} << below(9); copies > 0; --copies) value.push_back(element);
        }
        break;
      case 6:
        if (value.is_object()) value[std::to_string(below(3))] = Json(other);
        break;
      case 7:
        if (value.is_string()) value = value.get<std::string>() + text();
        break;
      case 8: value = text(); break;
      default:
        if (value.is_number_integer()) value = value.get<std::int64_t>() + static_cast<std::int64_t>(below(5)) - 2;
    }
  }

  Json extreme() {
    const Json values[] = {nullptr,
                           true,
                           0,
                           -1,
                           INT64_MAX,
                           UINT64_MAX,
                           1e308,
                           -1e308,
                           0.5,
                           5e-324,
                           "",
                           Json::array(),
                           Json::object(),
                           INT32_MAX,
                           std::int64_t{1} << 31,
                           1'000'000'000};
    return values[below(std::size(values))];
  }

  std::string text() {
    const std::string values[] = {"a",        "aa",     " ",          "\u2581",    std::string(1, '\0'),
                                  "<0x41>",   "\u00e9", "\U0001F600", "(?:a|a)*b", "\\p{L}+",
                                  "x*",       "(?=",    "[a&&[^b]]",  "\\b",       "A",
                                  "Sequence", "Replace"};
    std::string value = values[below(std::size(values))], repeated;
    for (std::uint64_t copies = below(4) == 0 ? 1 + below(3000) : 1; copies > 0; --copies) repeated += value;
    return repeated;
  }

  std::mt19937_64 random_;
};

}  // namespace spectrace
