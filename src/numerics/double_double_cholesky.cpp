#include "double_double_cholesky.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <string>

#include "reflector_error.hpp"
#include "spectrace/core/error.hpp"
#include "spectrace/core/parallel.hpp"

namespace spectrace {
namespace {

constexpr double kUnitSquared = kUnitRoundoff * kUnitRoundoff;
constexpr double kShiftGrowth = 16;
constexpr int kMostShifts = 20;
constexpr double kForRoundings = 1.001;  // of the bound's own sums

Panel64 columns_from(Panel64 panel, std::int64_t first) {
  return {panel.high + first * kPanelRows, panel.low + first * kPanelRows};
}

/// A panel is 64 rows of the triangle, column-major, so that the kernel reads it from one end to the other.
class PanelCholesky {
 public:
  PanelCholesky(const ScaledGram& gram, const DoubleDoubleKernel& kernel)
      : gram_(gram), kernel_(kernel), num_panels_((gram.size() + kPanelRows - 1) / kPanelRows) {
    high_ = at::empty({num_panels_, num_panels_ * kPanelRows, kPanelRows}, at::kDouble);
    low_ = at::empty_like(high_);
  }

  bool factorize(double shift) {
    parallel_for(num_panels_, [&](std::int64_t i) { fill(i, shift); });
    std::array<double, kPanelRows> inverses_high, inverses_low;
    const Panel64 inverses{inverses_high.data(), inverses_low.data()};
    for (std::int64_t j = 0; j < num_panels_; ++j) {
      const Panel64 above = panel(j), diagonal = columns_from(above, j * kPanelRows);
      parallel_for(num_panels_ - j, [&](std::int64_t task) {
        const Panel64 here = panel(j + task);
        kernel_.subtract_product(here, above, j * kPanelRows, columns_from(here, j * kPanelRows), kPanelRows);
      });
      if (!kernel_.factorize(diagonal, inverses)) return false;
      parallel_for(num_panels_ - j - 1, [&](std::int64_t task) {
        kernel_.solve(diagonal, inverses, columns_from(panel(j + 1 + task), j * kPanelRows));
      });
    }
    return true;
  }

  /// R = L^T in float64, with the columns' scales.
  Tensor rounded() {
    low_.reset();
    const std::int64_t n = gram_.size();
    const Tensor r = at::zeros({n, n}, at::kDouble);  // column-major, transposed below
    double* const to = r.mutable_data_ptr<double>();
    const double* const from = high_.const_data_ptr<double>();
    for (std::int64_t j = 0; j < n; ++j) {
      const double* const row = from + (j / kPanelRows) * num_panels_ * kPanelRows * kPanelRows + j % kPanelRows;
      for (std::int64_t i = 0; i <= j; ++i) to[j * n + i] = row[i * kPanelRows] * gram_.scale(j);
    }
    return r.t();
  }

 private:
  Panel64 panel(std::int64_t index) const {
    const std::int64_t first = index * num_panels_ * kPanelRows * kPanelRows;
    return {high_.mutable_data_ptr<double>() + first, low_.mutable_data_ptr<double>() + first};
  }

  /// The matrix and the shift, filled up with rows of the identity.
  void fill(std::int64_t index, double shift) {
    const std::int64_t first = index * kPanelRows, num_columns = first + kPanelRows;
    const std::int64_t rows = std::min(kPanelRows, gram_.size() - first);
    const Panel64 here = panel(index);
    std::fill_n(here.high, num_columns * kPanelRows, 0.0);
    std::fill_n(here.low, num_columns * kPanelRows, 0.0);
    const std::int64_t columns = first + rows;
    gram_.read(first, 0, {here.high, rows, columns, kPanelRows}, {here.low, rows, columns, kPanelRows});
    for (std::int64_t i = 0; i < kPanelRows; ++i) {
      const Panel64 column = columns_from(here, first + i);
      if (i < rows) {
        // Far below high, and added to low it takes part in the first carry.
        column.low[i] += shift;
      } else {
        column.high[i] = 1;
      }
    }
  }

  const ScaledGram& gram_;
  const DoubleDoubleKernel& kernel_;
  std::int64_t num_panels_;
  Tensor high_, low_;  // [panels, columns, 64]
};

}  // namespace

const DoubleDoubleKernel& double_double_kernel(VectorKind kind) {
  switch (kind) {
#ifdef SPECTRACE_X86_KERNELS
    case VectorKind::avx512: return kDoubleDoubleAvx512;
    case VectorKind::avx2: return kDoubleDoubleAvx2;
#endif
    default: return kDoubleDoubleBaseline;
  }
}

const DoubleDoubleKernel& double_double_kernel() {
  static const DoubleDoubleKernel& best = double_double_kernel(best_vector_kind());
  return best;
}

GramTriangle factorize_in_double_double(const ScaledGram& gram, const DoubleDoubleKernel& kernel) {
  const auto n = static_cast<double>(gram.size());
  PanelCholesky cholesky(gram, kernel);
  double shift = 40 * (n + 2) * kUnitSquared;
  for (int attempt = 1; !cholesky.factorize(shift); ++attempt, shift *= kShiftGrowth)
    if (attempt == kMostShifts)
      throw NumericalError("the Gram matrix of a matrix with " + std::to_string(gram.size()) +
                           " columns is not positive semidefinite");
  GramTriangle result;
  result.r = cholesky.rounded();
  // Derivation: docs/numerics.md, "Tall matrices of 16-bit numbers". The shift is one of scaled columns, whose scales
  // are at most 1.
  result.squared_error = kForRoundings * (40 * (n + 2) * kUnitSquared * gram.trace() + shift);
  result.rounding = kForRoundings * kUnitRoundoff * std::sqrt(gram.trace());
  return result;
}

}  // namespace spectrace
