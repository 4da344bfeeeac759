#pragma once

#include "double_double_kernel.hpp"
#include "scaled_gram.hpp"
#include "vector_kinds.hpp"

namespace spectrace {

const DoubleDoubleKernel& double_double_kernel(VectorKind kind);
/// The best that the processor has.
const DoubleDoubleKernel& double_double_kernel();

/// R with R^T R = G for a Gram matrix G = W^T W of scaled_gram's scale: it has the singular values of W 2^-exponent.
struct GramTriangle {
  Tensor r;              // [n, n] upper triangular
  double squared_error;  // |R^T R - G| <= that, 2-norm, for R before it was rounded to float64
  double rounding;       // 2-norm of what that took
};

/// The Cholesky factor of a Gram matrix that may be singular: in double-double numbers, with a multiple of the identity
/// added that is just large enough, some 1e-28. n^3 / 3 flops of them; with AVX-512 that takes as long as 2 n^3 of
/// float64 products do, with AVX2 twice, without either six times as long. Shares panels out to the threads; no bit
/// depends on how many there are. @throws NumericalError if that is not enough, which no Gram matrix of real rows comes
/// to.
GramTriangle factorize_in_double_double(const ScaledGram& gram,
                                        const DoubleDoubleKernel& kernel = double_double_kernel());

}  // namespace spectrace
