#pragma once

#include <cstddef>
#include <optional>
#include <string_view>

namespace spectrace {

/// Offset of the first byte that is not part of well-formed UTF-8 (Unicode table 3-7: no surrogates, nothing overlong).
std::optional<std::size_t> find_invalid_utf8(std::string_view text);

}  // namespace spectrace
