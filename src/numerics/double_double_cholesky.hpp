#pragma once

#include "bulge_chasing.hpp"
#include "double_double_kernel.hpp"
#include "scaled_gram.hpp"

namespace spectrace {

const DoubleDoubleKernel& double_double_kernel(VectorKind kind);
/// The best that the processor has.
const DoubleDoubleKernel& double_double_kernel();

/// The Cholesky factor of a Gram matrix that may be singular: in double-double numbers throughout, with a multiple of
/// the identity added that is just large enough, some 1e-28. n^3 / 3 operations at a tenth of the rate of float64.
/// Shares panels out to the threads; no bit depends on how many there are.
/// @throws NumericalError if that is not enough, which no Gram matrix of real rows comes to.
GramTriangle factorize_in_double_double(const ScaledGram& gram,
                                        const DoubleDoubleKernel& kernel = double_double_kernel());

}  // namespace spectrace
