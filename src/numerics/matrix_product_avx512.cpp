// Products of matrices as Goto and van de Geijn have them (ACM Trans. Math. Softw. 34, 2008; Van Zee and van de Geijn,
// ACM Trans. Math. Softw. 41, 2015): both operands are copied in the order in which the innermost loop reads them,
// which holds a tile of the result in the vector registers.
#include <immintrin.h>

#include "matrix_product_kernel.hpp"

namespace spectrace {
namespace {

constexpr int kLanes = 8;
constexpr int kTileVectors = 3, kTileRows = kTileVectors * kLanes, kTileColumns = 8;  // 24 of the 32 registers

typedef double Lanes __attribute__((vector_size(kLanes * sizeof(double)), may_alias));
typedef double UnalignedLanes __attribute__((vector_size(kLanes * sizeof(double)), aligned(sizeof(double)), may_alias));

inline Lanes load(const double* from) { return *reinterpret_cast<const UnalignedLanes*>(from); }
inline void store(double* to, Lanes lanes) { *reinterpret_cast<UnalignedLanes*>(to) = lanes; }
inline Lanes all(double x) { return x - Lanes{}; }

inline std::int64_t least(std::int64_t a, std::int64_t b) { return a < b ? a : b; }

/// Eight vectors as the columns of what they were the rows of.
inline void transpose(Lanes (&r)[kLanes]) {
  Lanes pairs[kLanes], fours[kLanes];
  for (int i = 0; i < kLanes; i += 2) {
    pairs[i] = __builtin_shufflevector(r[i], r[i + 1], 0, 8, 2, 10, 4, 12, 6, 14);
    pairs[i + 1] = __builtin_shufflevector(r[i], r[i + 1], 1, 9, 3, 11, 5, 13, 7, 15);
  }
  for (int i = 0; i < kLanes; i += 4)
    for (int k = 0; k < 2; ++k) {
      fours[i + k] = __builtin_shufflevector(pairs[i + k], pairs[i + k + 2], 0, 1, 8, 9, 4, 5, 12, 13);
      fours[i + k + 2] = __builtin_shufflevector(pairs[i + k], pairs[i + k + 2], 2, 3, 10, 11, 6, 7, 14, 15);
    }
  for (int k = 0; k < 4; ++k) {
    r[k] = __builtin_shufflevector(fours[k], fours[k + 4], 0, 1, 2, 3, 8, 9, 10, 11);
    r[k + 4] = __builtin_shufflevector(fours[k], fours[k + 4], 4, 5, 6, 7, 12, 13, 14, 15);
  }
}

/// Copies a [count, inner] operand as strips of kWidth rows, [inner, kWidth] each; rows that are not there are zero.
template <int kWidth>
void copy_strips(ProductOperand from, std::int64_t count, std::int64_t inner, double* to) {
  for (std::int64_t first = 0; first < count; first += kWidth, to += kWidth * inner) {
    const double* strip = from.data + first * from.row_step;
    const bool is_whole = first + kWidth <= count;
    if (is_whole && from.row_step == 1) {
      for (std::int64_t k = 0; k < inner; ++k)
        for (int i = 0; i < kWidth; i += kLanes) store(to + k * kWidth + i, load(strip + k * from.column_step + i));
      continue;
    }
    std::int64_t copied = 0;
    if (is_whole && from.column_step == 1)
      for (; copied + kLanes <= inner; copied += kLanes)
        for (int i = 0; i < kWidth; i += kLanes) {
          Lanes rows[kLanes];
          for (int r = 0; r < kLanes; ++r) rows[r] = load(strip + (i + r) * from.row_step + copied);
          transpose(rows);
          for (int k = 0; k < kLanes; ++k) store(to + (copied + k) * kWidth + i, rows[k]);
        }
    const std::int64_t rows = least(kWidth, count - first);
    for (std::int64_t k = copied; k < inner; ++k)
      for (std::int64_t i = 0; i < kWidth; ++i)
        to[k * kWidth + i] = i < rows ? strip[i * from.row_step + k * from.column_step] : 0.0;
  }
}

/// A tile of the result: c = scale a b + keep c, of the copies' strips.
inline void multiply_tile(const double* a, const double* b, std::int64_t inner, double* c, std::int64_t stride,
                          double scale, double keep) {
  Lanes sums[kTileColumns][kTileVectors] = {};
  for (std::int64_t k = 0; k < inner; ++k, a += kTileRows, b += kTileColumns) {
    const Lanes a0 = load(a), a1 = load(a + kLanes), a2 = load(a + 2 * kLanes);
#pragma GCC unroll 8
    for (int j = 0; j < kTileColumns; ++j) {
      const Lanes factor = all(b[j]);
      sums[j][0] = _mm512_fmadd_pd(a0, factor, sums[j][0]);
      sums[j][1] = _mm512_fmadd_pd(a1, factor, sums[j][1]);
      sums[j][2] = _mm512_fmadd_pd(a2, factor, sums[j][2]);
    }
  }
  const Lanes scales = all(scale), keeps = all(keep);
#pragma GCC unroll 8
  for (int j = 0; j < kTileColumns; ++j)
#pragma GCC unroll 3
    for (int i = 0; i < kTileVectors; ++i) {
      double* const place = c + j * stride + i * kLanes;
      const Lanes product = sums[j][i] * scales;
      store(place, keep == 0.0 ? product : _mm512_fmadd_pd(load(place), keeps, product));
    }
}

/// The same where the result ends within the tile.
void multiply_part_of_tile(const double* a, const double* b, std::int64_t inner, double* c, std::int64_t stride,
                           std::int64_t rows, std::int64_t columns, double scale, double keep) {
  alignas(64) double tile[kTileRows * kTileColumns];
  for (std::int64_t j = 0; j < kTileColumns; ++j)
    for (std::int64_t i = 0; i < kTileRows; ++i)
      tile[j * kTileRows + i] = keep != 0.0 && i < rows && j < columns ? c[j * stride + i] : 0.0;
  multiply_tile(a, b, inner, tile, kTileRows, scale, keep);
  for (std::int64_t j = 0; j < columns; ++j)
    for (std::int64_t i = 0; i < rows; ++i) c[j * stride + i] = tile[j * kTileRows + i];
}

}  // namespace

void multiply_avx512(ProductOperand a, ProductOperand b, double* c, std::int64_t stride, std::int64_t m, std::int64_t n,
                     std::int64_t inner, double scale, double keep, double* a_copy, double* b_copy) {
  const ProductOperand b_columns = {b.data, b.column_step, b.row_step};
  for (std::int64_t column = 0; column < n; column += kProductColumns) {
    const std::int64_t columns = least(kProductColumns, n - column);
    for (std::int64_t k = 0; k < inner; k += kProductInner) {
      const std::int64_t length = least(kProductInner, inner - k);
      const double kept = k == 0 ? keep : 1.0;
      copy_strips<kTileColumns>(
          {b.data + k * b.row_step + column * b.column_step, b_columns.row_step, b_columns.column_step}, columns,
          length, b_copy);
      for (std::int64_t row = 0; row < m; row += kProductRows) {
        const std::int64_t rows = least(kProductRows, m - row);
        copy_strips<kTileRows>({a.data + row * a.row_step + k * a.column_step, a.row_step, a.column_step}, rows, length,
                               a_copy);
        for (std::int64_t j = 0; j < columns; j += kTileColumns)
          for (std::int64_t i = 0; i < rows; i += kTileRows) {
            double* const place = c + (row + i) + (column + j) * stride;
            const double *const a_strip = a_copy + i * length, *const b_strip = b_copy + j * length;
            if (i + kTileRows <= rows && j + kTileColumns <= columns)
              multiply_tile(a_strip, b_strip, length, place, stride, scale, kept);
            else
              multiply_part_of_tile(a_strip, b_strip, length, place, stride, least(kTileRows, rows - i),
                                    least(kTileColumns, columns - j), scale, kept);
          }
      }
    }
  }
}

}  // namespace spectrace
