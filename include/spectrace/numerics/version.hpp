#pragma once

namespace spectrace {

/// Raised whenever numbers of many analyses come out with other bits from the same input: results of different versions
/// are never mixed in one file, nor journalled work of one used by another. An analysis has a version of its own too.
inline constexpr int kNumericsVersion = 5;

}  // namespace spectrace
