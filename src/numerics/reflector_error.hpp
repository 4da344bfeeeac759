#pragma once

#include <cmath>

namespace spectrace {

inline constexpr double kUnitRoundoff = 0x1p-53;

/// How far a matrix may be from the one that Householder reflectors were applied to exactly, relative to its 2-norm.
/// @param entries the reflectors' lengths, summed up. Derivation: docs/numerics.md, "Singular values".
inline double reflector_error(double entries) {
  constexpr double kConstant = 8, kGrowth = 2;
  return kUnitRoundoff * (kConstant + kGrowth * std::sqrt(entries));
}

}  // namespace spectrace
