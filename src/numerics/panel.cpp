#include "panel.hpp"

#include <algorithm>

#include "spectrace/core/error.hpp"

namespace spectrace {
namespace {

/// Moves the reflectors below the diagonal of a factorized panel to v, with the ones that LAPACK leaves out.
void take_reflectors(Block a, Block v) {
  for (std::int64_t j = 0; j < a.columns; ++j) {
    double* from = a.column(j);
    const std::int64_t below = std::min(j + 1, a.rows);
    if (j < v.columns) {
      double* to = v.column(j);
      std::fill(to, to + j, 0.0);
      to[j] = 1.0;
      std::copy(from + below, from + a.rows, to + below);
    }
    std::fill(from + below, from + a.rows, 0.0);
  }
}

/// T from its diagonal and the inner products of the reflectors, column by column: t_j = -tau_j T v^T v_j.
void build_triangle(Block products, const double* scales, Block t) {
  for (std::int64_t j = 0; j < t.columns; ++j) {
    std::fill(t.column(j), t.column(j) + t.rows, 0.0);
    for (std::int64_t k = 0; k < j; ++k) {
      const double factor = -scales[j] * products(k, j);
      for (std::int64_t i = 0; i <= k; ++i) t(i, j) += factor * t(i, k);
    }
    t(j, j) = scales[j];
  }
}

}  // namespace

PanelFactorization::PanelFactorization(std::int64_t max_columns)
    : scales_(static_cast<std::size_t>(max_columns)),
      workspace_(static_cast<std::size_t>(panel_workspace(max_columns))),
      products_(static_cast<std::size_t>(max_columns * max_columns)) {}

void PanelFactorization::factorize(Block a, Block v, Block t) {
  const std::int64_t k = std::min(a.rows, a.columns);
  SPECTRACE_ASSERT(v.rows == a.rows && v.columns == k && t.rows == k && t.columns == k);
  factorize_panel(a, scales_.data(), workspace_.data());
  take_reflectors(a, v);
  const Block products{products_.data(), k, k, k};
  multiply(Form::transposed, v, Form::as_is, v, products, 1.0, 0.0);
  build_triangle(products, scales_.data(), t);
}

}  // namespace spectrace
