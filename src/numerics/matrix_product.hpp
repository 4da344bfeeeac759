#pragma once

#include <vector>

#include "matrix_product_kernel.hpp"

namespace spectrace {

/// By the BLAS that libtorch brings, or by a kernel of our own for AVX-512.
enum class ProductWay { blas, kernel };
/// Those that this processor has, and the one that is faster on it. Bits differ from one to the next.
std::vector<ProductWay> product_ways();
ProductWay best_product_way();

/// c = scale a b + keep c by the kernel, as multiply_avx512, on the calling thread alone. @pre product_ways() has it.
template <typename Real>
void multiply_by_kernel(ProductOperand<Real> a, ProductOperand<Real> b, Real* c, std::int64_t stride, std::int64_t m,
                        std::int64_t n, std::int64_t inner, Real scale, Real keep);

}  // namespace spectrace
