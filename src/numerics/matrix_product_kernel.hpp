#pragma once

#include <cstdint>

// Included by files that are compiled for one kind of vector instructions: nothing here may be an inline function.

namespace spectrace {

/// An operand of a product: entry (i, k) at data[i row_step + k column_step], where one of the steps is 1.
template <typename Real>
struct ProductOperand {
  const Real* data;
  std::int64_t row_step, column_step;
};

/// Sizes of the blocks that are copied together.
inline constexpr std::int64_t kProductInner = 256;    // of k: a strip of b stays in the first-level cache
inline constexpr std::int64_t kProductRows = 240;     // of a's block, in the second-level cache; a multiple of 48
inline constexpr std::int64_t kProductColumns = 512;  // of b's block; a multiple of 8
/// What the copies take: numbers of a's block, then of b's.
inline constexpr std::int64_t kProductCopies = kProductInner * (kProductRows + kProductColumns);

/// c = scale a b + keep c for c [m, n], column-major with stride `stride`, a [m, inner], b [inner, n], with AVX-512.
/// keep 0 overwrites whatever is there. The sum over k of an entry is one chain of fused multiply-adds for each
/// kProductInner of them, whatever m and n are: how a product is cut into such has no effect on the bits.
/// copies: kProductCopies numbers, on whole cache lines. @pre m, n and inner are > 0.
template <typename Real>
void multiply_avx512(ProductOperand<Real> a, ProductOperand<Real> b, Real* c, std::int64_t stride, std::int64_t m,
                     std::int64_t n, std::int64_t inner, Real scale, Real keep, Real* copies);
extern template void multiply_avx512(ProductOperand<double>, ProductOperand<double>, double*, std::int64_t,
                                     std::int64_t, std::int64_t, std::int64_t, double, double, double*);
extern template void multiply_avx512(ProductOperand<float>, ProductOperand<float>, float*, std::int64_t, std::int64_t,
                                     std::int64_t, std::int64_t, float, float, float*);

}  // namespace spectrace
