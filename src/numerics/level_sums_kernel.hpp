#pragma once

#include <cstdint>

// The inner loop of thermodynamics, compiled once for each kind of vector instructions (level_sums_kernel_*.cpp).
// Nothing of the standard library but types: see symmetric_kernels.hpp.

namespace spectrace {

/// Terms of each polynomial in the table of FactorLevels.
inline constexpr std::int64_t kLevelTerms = 19;
/// Where the first of the table's intervals ends, [0, 1/4); the others are sixteenths of the octaves above.
inline constexpr double kFirstLevelEnd = 0.25;
/// `y` and `sums` are read and written in whole vectors: numbers of y are rounded up to this.
inline constexpr std::int64_t kLevelsTogether = 16;

/// With Y the upper end of the interval of y[i] and p its polynomial in the table: p, p' and p'' at Y - y[i].
/// `sums` is [3][count]. @pre count is a multiple of kLevelsTogether, 0 <= y[i] < the end of the table's intervals
using LevelSumsKernel = void (*)(const double* table, const double* y, std::int64_t count, double* sums);

void level_sums_baseline(const double* table, const double* y, std::int64_t count, double* sums);
void level_sums_avx2(const double* table, const double* y, std::int64_t count, double* sums);
void level_sums_avx512(const double* table, const double* y, std::int64_t count, double* sums);

}  // namespace spectrace
