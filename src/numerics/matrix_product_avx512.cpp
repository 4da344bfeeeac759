// Products of matrices as Goto and van de Geijn have them (ACM Trans. Math. Softw. 34, 2008; Van Zee and van de Geijn,
// ACM Trans. Math. Softw. 41, 2015): both operands are copied in the order in which the innermost loop reads them,
// which holds a tile of the result in the vector registers.
#include <immintrin.h>

#include "matrix_product_kernel.hpp"

namespace spectrace {
namespace {

constexpr int kVectorBytes = 64;
constexpr int kTileVectors = 3, kTileColumns = 8;  // of a tile of the result: 24 of the 32 registers

template <typename Real>
constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(Real));
template <typename Real>
constexpr int kTileRows = kTileVectors* kLanes<Real>;
static_assert(kProductRows % kTileRows<float> == 0 && kProductRows % kTileRows<double> == 0);
static_assert(kProductColumns % kTileColumns == 0);

template <typename Real>
struct Vector;
template <>
struct Vector<double> {
  typedef double Lanes __attribute__((vector_size(kVectorBytes), may_alias));
  typedef double Unaligned __attribute__((vector_size(kVectorBytes), aligned(sizeof(double)), may_alias));
  typedef std::int64_t Places __attribute__((vector_size(kVectorBytes)));
};
template <>
struct Vector<float> {
  typedef float Lanes __attribute__((vector_size(kVectorBytes), may_alias));
  typedef float Unaligned __attribute__((vector_size(kVectorBytes), aligned(sizeof(float)), may_alias));
  typedef std::int32_t Places __attribute__((vector_size(kVectorBytes)));
};
template <typename Real>
using Lanes = typename Vector<Real>::Lanes;

template <typename Real>
inline Lanes<Real> load(const Real* from) {
  return *reinterpret_cast<const typename Vector<Real>::Unaligned*>(from);
}
template <typename Real>
inline void store(Real* to, Lanes<Real> lanes) {
  *reinterpret_cast<typename Vector<Real>::Unaligned*>(to) = lanes;
}
template <typename Real>
inline Lanes<Real> all(Real x) {
  return x - Lanes<Real>{};
}
inline Lanes<double> add_product(Lanes<double> c, Lanes<double> a, Lanes<double> b) { return _mm512_fmadd_pd(a, b, c); }
inline Lanes<float> add_product(Lanes<float> c, Lanes<float> a, Lanes<float> b) { return _mm512_fmadd_ps(a, b, c); }

inline std::int64_t least(std::int64_t a, std::int64_t b) { return a < b ? a : b; }

/// As many vectors as lanes, as the columns of what they were the rows of: blocks of 1, 2, 4, ... beside the diagonal
/// change places.
template <typename Real>
inline void transpose(Lanes<Real> (&rows)[kLanes<Real>]) {
  constexpr int n = kLanes<Real>;
#pragma GCC unroll 4
  for (int size = 1; size < n; size *= 2) {
    typename Vector<Real>::Places upper = {}, lower = {};
    for (int lane = 0; lane < n; ++lane) {
      upper[lane] = lane & size ? n + lane - size : lane;
      lower[lane] = lane & size ? n + lane : lane + size;
    }
#pragma GCC unroll 16
    for (int i = 0; i < n; ++i) {
      if (i & size) continue;
      const Lanes<Real> first = rows[i], second = rows[i + size];
      rows[i] = __builtin_shuffle(first, second, upper);
      rows[i + size] = __builtin_shuffle(first, second, lower);
    }
  }
}

/// Copies a [count, inner] operand as strips of kWidth rows, [inner, kWidth] each; rows that are not there are zero.
template <int kWidth, typename Real>
void copy_strips(ProductOperand<Real> from, std::int64_t count, std::int64_t inner, Real* to) {
  constexpr int kStep = kWidth < kLanes<Real> ? kWidth : kLanes<Real>;
  for (std::int64_t first = 0; first < count; first += kWidth, to += kWidth * inner) {
    const Real* strip = from.data + first * from.row_step;
    const bool is_whole = first + kWidth <= count;
    std::int64_t copied = 0;
    if (is_whole && from.row_step == 1) {
      for (; copied < inner; ++copied)
        for (int i = 0; i < kWidth; ++i) to[copied * kWidth + i] = strip[copied * from.column_step + i];
    } else if (is_whole && from.column_step == 1) {
      for (; copied + kLanes<Real> <= inner; copied += kLanes<Real>)
        for (int i = 0; i < kWidth; i += kStep) {
          Lanes<Real> rows[kLanes<Real>] = {};
          for (int r = 0; r < kStep; ++r) rows[r] = load(strip + (i + r) * from.row_step + copied);
          transpose<Real>(rows);
          for (int k = 0; k < kLanes<Real>; ++k)
            __builtin_memcpy(to + (copied + k) * kWidth + i, &rows[k], kStep * sizeof(Real));
        }
    }
    const std::int64_t rows = least(kWidth, count - first);
    for (std::int64_t k = copied; k < inner; ++k)
      for (std::int64_t i = 0; i < kWidth; ++i)
        to[k * kWidth + i] = i < rows ? strip[i * from.row_step + k * from.column_step] : Real(0);
  }
}

/// A tile of the result: c = scale a b + keep c, of the copies' strips.
template <typename Real>
inline void multiply_tile(const Real* a, const Real* b, std::int64_t inner, Real* c, std::int64_t stride, Real scale,
                          Real keep) {
  constexpr int n = kLanes<Real>;
  Lanes<Real> sums[kTileColumns][kTileVectors] = {};
  for (std::int64_t k = 0; k < inner; ++k, a += kTileRows<Real>, b += kTileColumns) {
    const Lanes<Real> a0 = load(a), a1 = load(a + n), a2 = load(a + 2 * n);
#pragma GCC unroll 8
    for (int j = 0; j < kTileColumns; ++j) {
      const Lanes<Real> factor = all(b[j]);
      sums[j][0] = add_product(sums[j][0], a0, factor);
      sums[j][1] = add_product(sums[j][1], a1, factor);
      sums[j][2] = add_product(sums[j][2], a2, factor);
    }
  }
  const Lanes<Real> scales = all(scale), keeps = all(keep);
#pragma GCC unroll 8
  for (int j = 0; j < kTileColumns; ++j)
#pragma GCC unroll 3
    for (int i = 0; i < kTileVectors; ++i) {
      Real* const place = c + j * stride + i * n;
      const Lanes<Real> product = sums[j][i] * scales;
      store(place, keep == 0 ? product : add_product(product, load(place), keeps));
    }
}

/// The same where the result ends within the tile.
template <typename Real>
void multiply_part_of_tile(const Real* a, const Real* b, std::int64_t inner, Real* c, std::int64_t stride,
                           std::int64_t rows, std::int64_t columns, Real scale, Real keep) {
  constexpr int kHeight = kTileRows<Real>;
  alignas(kVectorBytes) Real tile[kHeight * kTileColumns];
  for (std::int64_t j = 0; j < kTileColumns; ++j)
    for (std::int64_t i = 0; i < kHeight; ++i)
      tile[j * kHeight + i] = keep != 0 && i < rows && j < columns ? c[j * stride + i] : Real(0);
  multiply_tile(a, b, inner, tile, kHeight, scale, keep);
  for (std::int64_t j = 0; j < columns; ++j)
    for (std::int64_t i = 0; i < rows; ++i) c[j * stride + i] = tile[j * kHeight + i];
}

/// A block of the result, of the copies of both operands.
template <typename Real>
void multiply_block(const Real* a, const Real* b, std::int64_t rows, std::int64_t columns, std::int64_t inner, Real* c,
                    std::int64_t stride, Real scale, Real keep) {
  for (std::int64_t j = 0; j < columns; j += kTileColumns)
    for (std::int64_t i = 0; i < rows; i += kTileRows<Real>) {
      const Real *const a_strip = a + i * inner, *const b_strip = b + j * inner;
      Real* const place = c + i + j * stride;
      if (i + kTileRows<Real> <= rows && j + kTileColumns <= columns)
        multiply_tile(a_strip, b_strip, inner, place, stride, scale, keep);
      else
        multiply_part_of_tile(a_strip, b_strip, inner, place, stride, least(kTileRows<Real>, rows - i),
                              least(kTileColumns, columns - j), scale, keep);
    }
}

}  // namespace

template <typename Real>
void multiply_avx512(ProductOperand<Real> a, ProductOperand<Real> b, Real* c, std::int64_t stride, std::int64_t m,
                     std::int64_t n, std::int64_t inner, Real scale, Real keep, Real* copies) {
  Real *const a_copy = copies, *const b_copy = copies + kProductInner * kProductRows;
  for (std::int64_t column = 0; column < n; column += kProductColumns) {
    const std::int64_t columns = least(kProductColumns, n - column);
    for (std::int64_t k = 0; k < inner; k += kProductInner) {
      const std::int64_t length = least(kProductInner, inner - k);
      copy_strips<kTileColumns, Real>({b.data + k * b.row_step + column * b.column_step, b.column_step, b.row_step},
                                      columns, length, b_copy);
      for (std::int64_t row = 0; row < m; row += kProductRows) {
        const std::int64_t rows = least(kProductRows, m - row);
        copy_strips<kTileRows<Real>, Real>({a.data + row * a.row_step + k * a.column_step, a.row_step, a.column_step},
                                           rows, length, a_copy);
        multiply_block(a_copy, b_copy, rows, columns, length, c + row + column * stride, stride, scale,
                       k == 0 ? keep : Real(1));
      }
    }
  }
}

template void multiply_avx512(ProductOperand<double>, ProductOperand<double>, double*, std::int64_t, std::int64_t,
                              std::int64_t, std::int64_t, double, double, double*);
template void multiply_avx512(ProductOperand<float>, ProductOperand<float>, float*, std::int64_t, std::int64_t,
                              std::int64_t, std::int64_t, float, float, float*);

}  // namespace spectrace
