#pragma once

namespace spectrace {

/// Raised whenever any number that the program computes from the same input comes out with other bits: results of
/// different versions are never mixed in one file, nor journalled work of one used by another.
inline constexpr int kNumericsVersion = 5;

}  // namespace spectrace
