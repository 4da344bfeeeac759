#pragma once

#include <cstdint>

// The inner loops of eigenvalues of symmetric matrices, compiled once for each kind of vector instructions
// (symmetric_kernels_*.cpp). Nothing of the standard library but types: an inline function of it, compiled for AVX-512,
// could be the one that the linker keeps for the whole program.

namespace spectrace {

/// Rows of memory that a tridiagonalization works in.
inline constexpr std::int64_t kTridiagonalizationRows = 18;

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
