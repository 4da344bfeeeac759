#pragma once

namespace spectrace {

/// Of float64, to nearest: what one operation may be off by, relatively.
inline constexpr double kUnitRoundoff = 0x1p-53;

}  // namespace spectrace
