#include "band_reduction.hpp"

#include <algorithm>
#include <vector>

#include "panel.hpp"
#include "spectrace/core/error.hpp"
#include "spectrace/core/parallel.hpp"

namespace spectrace {
namespace {

constexpr std::int64_t kColumnTile = 256;  // large enough for a product's full rate
constexpr std::int64_t kRowTile = 1024;    // short columns far from each other cost more: misses of the page table

/// Calls work(first, count) for tiles of about the given size that cover [0, size).
template <class Work>
void for_tiles(std::int64_t size, std::int64_t tile, const Work& work) {
  const std::int64_t num_tiles = std::max<std::int64_t>(1, (size + tile / 2) / tile);
  parallel_for(num_tiles, [&](std::int64_t i) {
    const std::int64_t first = size * i / num_tiles;
    work(first, size * (i + 1) / num_tiles - first);
  });
}

/// result = a b in tiles of the rows of a.
void multiply_rows(Block a, Block b, Block result) {
  for_tiles(result.rows, kRowTile, [&](std::int64_t first, std::int64_t count) {
    multiply(Form::as_is, a.part(first, 0, count, a.columns), Form::as_is, b,
             result.part(first, 0, count, result.columns), 1.0, 0.0);
  });
}

/// result = a^T b in tiles of the columns of a.
void multiply_columns(Block a, Block b, Block result) {
  for_tiles(result.rows, kColumnTile, [&](std::int64_t first, std::int64_t count) {
    multiply(Form::transposed, a.part(0, first, a.rows, count), Form::as_is, b,
             result.part(first, 0, count, result.columns), 1.0, 0.0);
  });
}

/// a -= left right^T in tiles of its columns.
void subtract_product(Block a, Block left, Block right) {
  for_tiles(a.columns, kColumnTile, [&](std::int64_t first, std::int64_t count) {
    multiply(Form::as_is, left, Form::transposed, right.part(first, 0, count, right.columns),
             a.part(0, first, a.rows, count), -1.0, 1.0);
  });
}

class Reduction {
 public:
  Reduction(Block a, std::int64_t bandwidth)
      : a_(a),
        bandwidth_(bandwidth),
        band_(a.columns, bandwidth),
        panel_(bandwidth),
        left_(static_cast<std::size_t>(2 * a.rows * bandwidth)),
        right_(static_cast<std::size_t>(2 * a.columns * bandwidth)),
        skinny_(static_cast<std::size_t>(a.rows * bandwidth)),
        rows_(static_cast<std::size_t>(a.columns * bandwidth)),
        triangles_(static_cast<std::size_t>(3 * bandwidth * bandwidth)) {}

  BandMatrix run() {
    for (std::int64_t k = 0; k < a_.columns; k += bandwidth_) step(k);
    return std::move(band_);
  }

 private:
  static Block block(std::vector<double>& memory, std::int64_t rows, std::int64_t columns, std::int64_t offset = 0) {
    return {memory.data() + offset, rows, columns, rows};
  }

  /// Columns k to k + w become upper triangular, then rows k to k + w lower triangular right of that.
  void step(std::int64_t k) {
    const std::int64_t w = std::min(bandwidth_, a_.columns - k);
    const Block trailing = a_.part(k, k, a_.rows - k, a_.columns - k);
    const std::int64_t m = trailing.rows, rest = trailing.columns - w;

    // Columns: Q^T from the left. V1 and W1 = E^T V1 T1 make Q^T E = E - V1 W1^T.
    const Block columns = trailing.left(w);
    const Block v1 = block(left_, m, w), t1 = block(triangles_, w, w);
    panel_.factorize(columns, v1, t1);
    for (std::int64_t j = 0; j < w; ++j)
      for (std::int64_t i = 0; i <= j; ++i) band_(k + i, k + j) = columns(i, j);
    if (rest == 0) return;
    const Block e = trailing.right_of(w);
    const Block w1 = block(right_, rest, w);
    const Block product = block(skinny_, rest, w);  // E^T V1
    multiply_columns(e, v1, product);
    multiply(Form::as_is, product, Form::as_is, t1, w1, 1.0, 0.0);

    // Rows: the top of E as it is after that, transposed, so that LQ is QR.
    const bool is_first = k == 0;
    if (is_first) subtract_product(e, v1, w1);
    const std::int64_t w2 = std::min(w, rest);
    const Block rows = block(rows_, rest, w);
    for (std::int64_t i = 0; i < w; ++i)
      for (std::int64_t j = 0; j < rest; ++j) rows(j, i) = e(i, j);
    if (!is_first) multiply(Form::as_is, w1, Form::transposed, v1.top(w), rows, -1.0, 1.0);
    const Block v2 = block(right_, rest, w2, rest * w), t2 = block(triangles_, w2, w2, w * w);
    panel_.factorize(rows, v2, t2);
    for (std::int64_t i = 0; i < w; ++i)
      for (std::int64_t j = 0; j <= std::min(i, rest - 1); ++j) band_(k + i, k + w + j) = rows(j, i);
    if (m == w) return;

    // The rest: E - V1 W1^T - X V2^T with X = (E - V1 W1^T) V2 T2, as one product of twice the width.
    const Block below = e.below(w), v1_below = v1.below(w);
    const Block x = block(skinny_, m - w, w2);
    multiply_rows(below, v2, x);
    if (is_first) {
      // Where one singular value dominates, nearly all of E goes into the first panel: E V2 and V1 W1^T V2 would
      // cancel. So the first update was made before this one.
      const Block x_t2 = block(left_, m - w, w2, m * w);
      multiply(Form::as_is, x, Form::as_is, t2, x_t2, 1.0, 0.0);
      subtract_product(below, x_t2, v2);
      return;
    }
    const Block inner = block(triangles_, w, w2, 2 * w * w);
    multiply(Form::transposed, w1, Form::as_is, v2, inner, 1.0, 0.0);
    multiply(Form::as_is, v1_below, Form::as_is, inner, x, -1.0, 1.0);
    // [V1 X] with one stride: X goes behind V1 with V1's height.
    const Block x_t2{left_.data() + m * w + w, m - w, w2, m};
    multiply(Form::as_is, x, Form::as_is, t2, x_t2, 1.0, 0.0);
    const Block both_left{left_.data() + w, m - w, w + w2, m}, both_right{right_.data(), rest, w + w2, rest};
    subtract_product(below, both_left, both_right);
  }

  Block a_;
  std::int64_t bandwidth_;
  BandMatrix band_;
  PanelFactorization panel_;
  std::vector<double> left_;       // [rows, 2 b]: V1 and X T2
  std::vector<double> right_;      // [columns, 2 b]: W1 and V2
  std::vector<double> skinny_;     // [rows, b]: E^T V1, then X
  std::vector<double> rows_;       // [columns, b]: the rows under work, transposed
  std::vector<double> triangles_;  // T1, T2, W1^T V2
};

}  // namespace

BandMatrix reduce_to_band(Block a, std::int64_t bandwidth) {
  SPECTRACE_ASSERT(a.rows >= a.columns && a.columns > 0 && bandwidth > 0);
  return Reduction(a, bandwidth).run();
}

std::int64_t band_reduction_bytes(std::int64_t rows, std::int64_t columns, std::int64_t bandwidth) {
  const std::int64_t panels = bandwidth * (3 * rows + 3 * columns);
  const std::int64_t band = (columns + 3 * bandwidth) * (3 * bandwidth + 1);
  return 8 * (panels + band + 6 * bandwidth * bandwidth);
}

}  // namespace spectrace
