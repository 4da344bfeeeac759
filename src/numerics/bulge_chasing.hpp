#pragma once

#include <string>
#include <vector>

#include "band_matrix.hpp"

namespace spectrace {

/// An upper bidiagonal matrix.
struct Bidiagonal {
  std::vector<double> diagonal;       // [n]
  std::vector<double> superdiagonal;  // [max(n - 1, 0)]
};

/// Kinds of vector instructions that the kernel is compiled for. Bits may differ from one to the next.
enum class VectorKind { baseline, avx2, avx512 };

/// Those that this processor has, the best one last.
std::vector<VectorKind> vector_kinds();
const char* name(VectorKind kind);

/// The bidiagonal matrix with the singular values of an upper band matrix, by Householder reflectors as long as the
/// band is wide that chase the fill-in down the band, sweep by sweep (Haidar, Kurzak, Luszczek, SC 2013). About
/// 8 n^2 b flops. On the calling thread alone. @pre band.bandwidth() is 16, 32 or 48.
Bidiagonal chase_bulges(BandMatrix band, VectorKind kind);
Bidiagonal chase_bulges(BandMatrix band);

}  // namespace spectrace
