#include "storable_text.hpp"

#include <algorithm>

#include "spectrace/core/json.hpp"

namespace spectrace {

std::string storable_text(const std::string& text) {
  const bool is_plain = std::all_of(text.begin(), text.end(), [](char c) { return c > 0; });  // ASCII without 0
  if (is_plain) return text;
  // The JSON library's printer replaces what is not UTF-8.
  std::string quoted = Json(text).dump(-1, ' ', false, Json::error_handler_t::replace);
  std::string valid = Json::parse(quoted).get<std::string>();
  for (auto place = valid.find('\0'); place != std::string::npos; place = valid.find('\0', place))
    valid.replace(place, 1, "\xEF\xBF\xBD");
  return valid;
}

}  // namespace spectrace
