#pragma once

#include <cmath>
#include <span>

#include "spectrace/core/error.hpp"

namespace spectrace {

/// Makes minima and maxima over ranks independent of the ranks' order: -0.0 becomes +0.0 (they compare equal, so either
/// could win). @pre no value is NaN.
inline void prepare_extremes(std::span<double> values) {
  for (double& value : values) {
    SPECTRACE_ASSERT(!std::isnan(value));
    if (value == 0.0) value = 0.0;
  }
}

}  // namespace spectrace
