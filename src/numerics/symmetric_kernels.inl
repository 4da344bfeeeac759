// Included by one file for each kind of vector instructions, which defines SPECTRACE_KERNELS, the table's name, and
// SPECTRACE_LANES, how many float64 one vector holds.

#if SPECTRACE_LANES > 2
#include <immintrin.h>
#endif

#include <utility>

#include "symmetric_kernels.hpp"

// Compiled without contractions: where a product and a sum are one operation is said here, so that a matrix has the
// same bits in every copy of a loop that the compiler makes.

namespace spectrace {
namespace {

constexpr int kLanes = SPECTRACE_LANES;
constexpr int kColumns = 4;  // of a strip
constexpr int kBlockRows = kLanes > kColumns ? kLanes : kColumns;
constexpr int kBlockVectors = kBlockRows / kLanes;
constexpr int kBlockSize = kBlockRows * kColumns;

typedef double Lanes __attribute__((vector_size(kLanes * sizeof(double)), may_alias));
typedef std::int64_t Mask __attribute__((vector_size(kLanes * sizeof(std::int64_t)), may_alias));

// Everything is aligned.
inline Lanes load(const double* from) { return *reinterpret_cast<const Lanes*>(from); }
inline void store(double* to, Lanes lanes) { *reinterpret_cast<Lanes*>(to) = lanes; }
inline Lanes all(double x) { return x - Lanes{}; }
inline Lanes choose(Mask mask, Lanes yes, Lanes no) { return mask ? yes : no; }

/// a b + c and c - a b, rounded once where the processor can.
#if SPECTRACE_LANES == 8
inline Lanes add_product(Lanes c, Lanes a, Lanes b) { return _mm512_fmadd_pd(a, b, c); }
inline Lanes subtract_product(Lanes c, Lanes a, Lanes b) { return _mm512_fnmadd_pd(a, b, c); }
#elif SPECTRACE_LANES == 4
inline Lanes add_product(Lanes c, Lanes a, Lanes b) { return _mm256_fmadd_pd(a, b, c); }
inline Lanes subtract_product(Lanes c, Lanes a, Lanes b) { return _mm256_fnmadd_pd(a, b, c); }
#else
inline Lanes add_product(Lanes c, Lanes a, Lanes b) { return c + a * b; }
inline Lanes subtract_product(Lanes c, Lanes a, Lanes b) { return c - a * b; }
#endif

inline double sum(Lanes x) {
  for (int width = kLanes / 2; width > 0; width /= 2)
    for (int i = 0; i < width; ++i) x[i] += x[i + width];
  return x[0];
}

inline double dot(const double* a, const double* b, std::int64_t first, std::int64_t end) {
  Lanes sums[4] = {};
  std::int64_t i = first;
  for (; i + 4 * kLanes <= end; i += 4 * kLanes)
    for (int k = 0; k < 4; ++k) sums[k] = add_product(sums[k], load(a + i + k * kLanes), load(b + i + k * kLanes));
  for (int k = 0; i < end; i += kLanes, ++k) sums[k] = add_product(sums[k], load(a + i), load(b + i));
  return sum((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

}  // namespace
}  // namespace spectrace

#include "lock_step_ql.inl"
#include "symmetric_band_reduction.inl"
#include "symmetric_bulge_chasing.inl"
#include "tridiagonalization.inl"

namespace spectrace {
namespace {

void tridiagonalize(double* strips, std::int64_t n, std::int64_t padded_rows, double* work, double* diagonal,
                    double* beside) {
  Tridiagonalization(strips, n, padded_rows, work).run(diagonal, beside);
}

void reduce_to_band(double* tiles, std::int64_t n, std::int64_t padded_rows, double* work, double* band) {
  BandReduction(tiles, n, padded_rows, work, band).run();
}

void chase_bulges(double* band, std::int64_t n, double* diagonal, double* beside) {
  SymmetricChase(band, n).run();
  for (std::int64_t i = 0; i < n; ++i) {
    diagonal[i] = band[i + kBandStride * i];
    beside[i] = i + 1 < n ? band[i + 1 + kBandStride * i] : 0;
  }
}

void values_of_tridiagonals(double* diagonal, double* squares, std::int64_t n, std::int64_t together, double* values,
                            bool* converged) {
  switch (together / kLanes) {
    case 1: return LockStep<1>(diagonal, squares, n, values, converged).run();
    case 2: return LockStep<2>(diagonal, squares, n, values, converged).run();
    case 3: return LockStep<3>(diagonal, squares, n, values, converged).run();
    case 4: return LockStep<4>(diagonal, squares, n, values, converged).run();
    default: __builtin_trap();  // symmetric_eigenvalues has checked it
  }
}

}  // namespace

const SymmetricKernels SPECTRACE_KERNELS = {kBlockRows,   kMostGroups* kLanes,   kLanes, tridiagonalize, reduce_to_band,
                                            chase_bulges, values_of_tridiagonals};

}  // namespace spectrace
