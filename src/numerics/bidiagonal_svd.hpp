#pragma once

#include <vector>

#include "bulge_chasing.hpp"

namespace spectrace {

/// Singular values of an upper bidiagonal matrix, descending, each to a small multiple of n u of itself while its
/// square is within float64's range relative to that of the largest: the differential quotient difference algorithm
/// with shifts (Fernando and Parlett, Numer. Math. 67, 1994), shifts as Parlett and Marques choose them (Linear Algebra
/// Appl. 309, 2000). Empty if it does not converge. @pre entries finite.
std::vector<double> bidiagonal_singular_values(const Bidiagonal& matrix);

}  // namespace spectrace
