#pragma once

#include <cstdint>

// The inner loops of eigenvalues of symmetric matrices, compiled once for each kind of vector instructions
// (symmetric_kernels_*.cpp). Nothing of the standard library but types: an inline function of it, compiled for AVX-512,
// could be the one that the linker keeps for the whole program.

namespace spectrace {

/// Rows of memory that a tridiagonalization works in.
inline constexpr std::int64_t kTridiagonalizationRows = 4;

/// Of the reduction in two stages: how wide the band is that is between them, from one column of it to the next (entry
/// (i, j) is i + kBandStride j behind the first), how the matrix lies (SymmetricTiles), and what it works in: so many
/// numbers for each row, rows rounded up to a strip's columns, and so many more.
inline constexpr std::int64_t kBandwidth = 16, kBandStride = 3 * kBandwidth;
inline constexpr std::int64_t kSymmetricTileColumns = 48, kSymmetricTileRows = 12;
inline constexpr std::int64_t kBandReductionColumns = 4 * kBandwidth,
                              kBandReductionSquares = (3 * kBandwidth + 2 * kSymmetricTileColumns) * kBandwidth;

struct SymmetricKernels {
  /// Rows of a block of SymmetricStrips: 4 or 8.
  std::int64_t block_rows;
  /// Tridiagonal matrices whose values are made at one time, at most, and what their number is rounded up to.
  std::int64_t most_together, together_step;

  /// The tridiagonal matrix with the eigenvalues of `strips` (overwritten; SymmetricStrips says how they lie), by
  /// Householder reflectors: `diagonal` [n], `beside` [n], whose last entry is 0. 4/3 n^3 flops. `work`:
  /// kTridiagonalizationRows times padded_rows, zero, aligned as strips are.
  void (*tridiagonalize)(double* strips, std::int64_t n, std::int64_t padded_rows, double* work, double* diagonal,
                         double* beside);

  /// The band matrix with the eigenvalues of `tiles` (overwritten; SymmetricTiles says how they lie): `band` gets its
  /// lower half and, above the diagonal, what blocks of the diagonal have that begin in rows 1, 1 + kBandwidth, ... 4/3
  /// n^3 flops, nearly all in products. `work`, zero: see kBandReductionColumns. All aligned as tiles are.
  void (*reduce_to_band)(double* tiles, std::int64_t n, std::int64_t padded_rows, double* work, double* band);

  /// The tridiagonal matrix with the eigenvalues of such a band matrix (overwritten), as tridiagonalize gives it. About
  /// 7 n^2 kBandwidth flops. @pre zeros follow the band as far as a bulge reaches: to column n + kBandwidth.
  void (*chase_bulges)(double* band, std::int64_t n, double* diagonal, double* beside);

  /// Eigenvalues of `together` symmetric tridiagonal matrices of one size in lock step, a lane each, by the root-free
  /// QL of Pal, Walker and Kahan (LAPACK's dsterf, without its search for splittings). Row i of all matrices lies
  /// together: `diagonal` and `squares` (of the entries beside it) are [n][together], overwritten; `values` is
  /// [together][n], not sorted. A matrix that takes more than 30 n sweeps has false in `converged`. Who shares the
  /// lanes has no effect on a matrix' bits. @pre together is a multiple of together_step, at most most_together; sizes
  /// of entries are near 1.
  void (*values_of_tridiagonals)(double* diagonal, double* squares, std::int64_t n, std::int64_t together,
                                 double* values, bool* converged);
};

extern const SymmetricKernels kSymmetricBaseline, kSymmetricAvx2, kSymmetricAvx512;

}  // namespace spectrace
