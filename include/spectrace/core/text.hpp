#pragma once

#include <fmt/format.h>

#include <concepts>
#include <string>
#include <string_view>

namespace spectrace {

/// "1 model", "3 models"
std::string number_of(std::integral auto count, std::string_view noun) {
  return fmt::format("{} {}{}", count, noun, count == 1 ? "" : "s");
}

}  // namespace spectrace
