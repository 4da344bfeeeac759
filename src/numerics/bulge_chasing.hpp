#pragma once

#include <vector>

#include "band_matrix.hpp"
#include "vector_kinds.hpp"

namespace spectrace {

/// An upper bidiagonal matrix.
struct Bidiagonal {
  std::vector<double> diagonal;       // [n]
  std::vector<double> superdiagonal;  // [max(n - 1, 0)]
};

/// The bidiagonal matrix with the singular values of an upper band matrix, by Householder reflectors as long as the
/// band is wide that chase the fill-in down the band, sweep by sweep (Haidar, Kurzak, Luszczek, SC 2013). About
/// 8 n^2 b flops. On the calling thread alone. @pre band.bandwidth() is 16, 32 or 64.
Bidiagonal chase_bulges(BandMatrix band, VectorKind kind);
Bidiagonal chase_bulges(BandMatrix band);

}  // namespace spectrace
