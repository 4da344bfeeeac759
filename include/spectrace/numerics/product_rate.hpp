#pragma once

#include "spectrace/numerics/tensor.hpp"

namespace spectrace {

/// Floating-point operations a second of matrix products on all threads of this process, measured now: the yardstick
/// for everything else. Takes about a tenth of a second.
double product_rate(ComputeType type);

}  // namespace spectrace
