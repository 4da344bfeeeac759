#pragma once

#include <limits>

namespace spectrace {

/// What a quantity is that is not defined, or that nobody measured.
inline constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

}  // namespace spectrace
