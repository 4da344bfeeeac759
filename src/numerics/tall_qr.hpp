#pragma once

#include <cstdint>
#include <vector>

#include "blas.hpp"
#include "panel.hpp"

namespace spectrace {

/// The triangle R of QR factorizations of tall matrices; Q is never kept. While the columns right of a panel are
/// updated, in tiles that the threads share, the next panel is factorized. Tiles and panels follow from the sizes
/// alone, so the bits do not depend on the number of threads.
class TallQr {
 public:
  /// For matrices of at most so many rows, and exactly so many columns.
  TallQr(std::int64_t max_rows, std::int64_t num_columns);

  /// Leaves R in the first rows of a, zeros below its diagonal there, and nothing of use further down.
  /// @pre a.rows >= a.columns.
  void factorize(Block a);

  /// Replaces the triangle r by that of [r; rows]. Uses that r is one: 2 rows n^2 flops. Overwrites rows.
  /// @pre r is [n, n], zeros below its diagonal.
  void update(Block r, Block rows);

  /// The same with a triangle below: 2/3 n^3 flops. Overwrites it.
  /// @pre both are [n, n], zeros below their diagonals.
  void merge(Block r, Block triangle);

 private:
  struct Panel {
    std::vector<double> reflectors, triangle;
    Block v, t;  // of the last factorization
  };

  /// The rows that panel k acts on: `top`, its own rows of R, and `rest`.
  struct Stack {
    Block first, below;
    bool is_triangle_above, is_triangle_below;
    Block top(std::int64_t k, std::int64_t width) const;
    Block rest(std::int64_t k, std::int64_t width) const;
  };

  void run(const Stack& stack);
  void factorize_panel_at(const Stack& stack, std::int64_t k, Panel& panel);
  void apply(const Stack& stack, std::int64_t k, const Panel& panel, std::int64_t first, std::int64_t count);

  std::int64_t num_columns_;
  PanelFactorization factorization_;
  Panel panels_[2];
  std::vector<double> stacked_;   // [rows, width]: a panel with its top and rest put together
  std::vector<double> products_;  // [columns, width]
};

/// What a TallQr has in memory, bytes.
std::int64_t tall_qr_bytes(std::int64_t max_rows, std::int64_t num_columns);

}  // namespace spectrace
