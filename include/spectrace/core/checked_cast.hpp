#pragma once

#include <stdexcept>
#include <string>
#include <utility>

namespace spectrace {

/// Converts between integer types; throws std::overflow_error naming the value if it does not fit.
template <typename To, typename From>
To checked_cast(From value) {
  if (!std::in_range<To>(value))
    throw std::overflow_error("the count " + std::to_string(value) + " does not fit the type it is passed as");
  return static_cast<To>(value);
}

}  // namespace spectrace
