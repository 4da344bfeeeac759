#include <algorithm>
#include <cmath>
#include <utility>

#include "double_double_cholesky.hpp"
#include "reflector_error.hpp"
#include "scaled_gram.hpp"
#include "spectrace/core/error.hpp"
#include "spectrace/numerics/dense_svd.hpp"

namespace spectrace {
namespace {

constexpr double kFactorOfDrift = 2;  // of the error bound

/// Of ExactGram's sums, 2-norm: (18 N + 64) u^2 times the trace (docs/numerics.md).
double error_of_sums(const GramFacts& facts, double trace) {
  return (18 * static_cast<double>(facts.num_additions) + 64) * kUnitRoundoff * kUnitRoundoff * trace;
}

/// |a - b| <= |a^2 - b^2| / (a + b) and <= sqrt(|a^2 - b^2|): the difference of values whose squares are so close,
/// where one is no smaller than that.
double error_of_root(double squared_error, double smallest) {
  const double root = std::sqrt(squared_error);
  return smallest > 0 ? std::min(root, squared_error / smallest) : root;
}

SingularValues values_of(const GramTriangle& triangle, double trace, const GramFacts& facts) {
  const auto n = static_cast<double>(triangle.r.size(0)), num_rows = static_cast<double>(facts.num_rows);
  const double norm = std::sqrt(trace);
  const double squared_error = triangle.squared_error + error_of_sums(facts, trace);
  const double relative = reflector_error(2 * n * (n + static_cast<double>(kWidestBand)));
  // The norm of R is that of W up to |trace (R^T R - G)| / norm.
  const double tolerance =
      (std::sqrt(n) * relative + (num_rows + n) * kUnitRoundoff) * norm + n * squared_error / norm + triangle.rounding;
  CheckedSingularValues checked = checked_singular_values(triangle.r, norm, tolerance);
  const double of_svd = relative * checked.values.front() + kFactorOfDrift * checked.norm_drift;
  const double smallest = checked.values.back() - of_svd - triangle.rounding;
  const double of_triangle = error_of_root(squared_error, smallest) + triangle.rounding;
  return {std::move(checked.values), of_svd + of_triangle};
}

}  // namespace

SingularValues singular_values_of_gram(GramOfRows gram, std::int64_t num_columns) {
  SPECTRACE_ASSERT(std::cmp_equal(gram.high.size(), num_columns * (num_columns + 1) / 2));
  SPECTRACE_ASSERT(gram.low.size() == gram.high.size());
  const ScaledGram scaled(gram, num_columns);
  SingularValues result;
  if (scaled.size() > 0) {
    const GramTriangle triangle = factorize_in_double_double(scaled);
    gram.high = gram.low = std::vector<double>();  // the largest part of the memory
    result = values_of(triangle, scaled.trace(), gram.facts);
    for (double& value : result.values) value = std::ldexp(value, scaled.exponent());
    result.error_bound = std::ldexp(result.error_bound, scaled.exponent());
  }
  // Columns of zeros, and values that fewer rows than columns do not have, are the last ones.
  result.values.resize(static_cast<std::size_t>(std::min(num_columns, gram.facts.num_rows)), 0.0);
  return result;
}

double gram_singular_values_flops(std::int64_t num_columns) {
  const auto n = static_cast<double>(num_columns);
  return (2 + 8.0 / 3.0) * n * n * n;
}

std::int64_t gram_singular_values_bytes(std::int64_t num_columns) {
  const std::int64_t n = num_columns, padded = (n + kPanelRows - 1) / kPanelRows * kPanelRows;
  const std::int64_t gram = 8 * n * (n + 1), triangle = 8 * n * n;
  return std::max(gram + 16 * padded * padded, triangle + two_stage_bytes(n, n));
}

}  // namespace spectrace
