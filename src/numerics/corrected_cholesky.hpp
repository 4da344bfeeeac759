#pragma once

#include <optional>

#include "scaled_gram.hpp"

namespace spectrace {

/// R = R0 + X / 2 with the Cholesky factor R0 of a Gram matrix in float64 and R0^T X its residual, which is computed to
/// some 2^-70: R^T R is the Gram matrix but for X^T X / 4, so nothing is lost until the condition number comes to 1e5.
/// Nothing if the factorization breaks down. All of it matrix products on tiles that the threads share, 10/3 n^3 flops;
/// no bit depends on how many there are.
std::optional<GramTriangle> factorize_with_correction(const ScaledGram& gram);

}  // namespace spectrace
