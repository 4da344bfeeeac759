#include "spectrace/numerics/attention_graph.hpp"

#include <algorithm>
#include <cmath>

#include "pairwise_sum.hpp"
#include "spectrace/core/error.hpp"
#include "spectrace/core/floats.hpp"
#include "spectrace/numerics/device.hpp"
#include "spectrace/numerics/singular_values.hpp"
#include "spectrace/numerics/spectral_summary.hpp"

namespace spectrace {
namespace {

void expect_square(const Tensor& a) {
  SPECTRACE_ASSERT(a.dim() == 2 && a.size(0) == a.size(1) && a.size(0) > 0 && a.stride(1) == 1);
  SPECTRACE_ASSERT(Device::of(a).is_host() && (a.scalar_type() == at::kFloat || a.scalar_type() == at::kDouble));
}

/// Calls use(entries, from one row to the next) with the matrix' own type.
template <typename Use>
auto with_entries(const Tensor& a, const Use& use) {
  expect_square(a);
  return a.scalar_type() == at::kFloat ? use(a.const_data_ptr<float>(), a.stride(0))
                                       : use(a.const_data_ptr<double>(), a.stride(0));
}

}  // namespace

std::vector<double> directed_laplacian_diagonal(const Tensor& a) {
  const std::int64_t n = a.size(0);
  return with_entries(a, [n](const auto* entries, std::int64_t stride) {
    std::vector<double> diagonal(static_cast<std::size_t>(n));
    for (std::int64_t u = 0; u < n; ++u)
      for (std::int64_t i = 0; i < n; ++i)
        diagonal[static_cast<std::size_t>(i)] += static_cast<double>(entries[u * stride + i]);
    for (std::int64_t i = 0; i < n; ++i) {
      double& entry = diagonal[static_cast<std::size_t>(i)];
      entry = entry / static_cast<double>(n - i) - static_cast<double>(entries[i * stride + i]);
    }
    return diagonal;
  });
}

double dirichlet_energy(const Tensor& a, const Tensor& distances, double sum_of_squares) {
  SPECTRACE_ASSERT(distances.sizes() == a.sizes() && distances.scalar_type() == at::kDouble);
  const double* const squares = distances.const_data_ptr<double>();
  const std::int64_t n = a.size(0);
  const double sum = with_entries(a, [=](const auto* entries, std::int64_t stride) {
    return pairwise_sum(0, n, [=](std::int64_t i) {
      const auto* const row = entries + i * stride;
      const double* const of_row = squares + i * n;
      return pairwise_sum(0, n, [=](std::int64_t j) { return static_cast<double>(row[j]) * of_row[j]; });
    });
  });
  return sum / (2.0 * sum_of_squares);
}

AttentionRank attention_rank(const Tensor& a) {
  expect_square(a);
  const std::int64_t n = a.size(0);
  const SpectralSummary summary = summarize_spectrum(singular_values(a).values, kNaN, n, n);
  return {summary.spectral_norm, summary.effective_rank};
}

LevelSpacing level_spacing(std::span<const double> ascending, double error_bound) {
  std::vector<double> levels;  // the middle of each
  double first = 0, last = 0;
  for (const double value : ascending) {
    const bool is_new = levels.empty() || value - last > 2.0 * error_bound;
    if (is_new) levels.push_back(first = value);
    last = value;
    levels.back() = first + 0.5 * (last - first);
  }
  LevelSpacing found{kNaN, static_cast<std::int64_t>(levels.size())};
  if (found.num_levels < 3) return found;
  const double sum = pairwise_sum(0, found.num_levels - 2, [&](std::int64_t i) {
    const auto k = static_cast<std::size_t>(i);
    const double here = levels[k + 1] - levels[k], next = levels[k + 2] - levels[k + 1];
    return std::min(here, next) / std::max(here, next);
  });
  found.mean_ratio = sum / static_cast<double>(found.num_levels - 2);
  return found;
}

}  // namespace spectrace
