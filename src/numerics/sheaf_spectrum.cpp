#include "spectrace/numerics/sheaf_spectrum.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "pairwise_sum.hpp"
#include "spectrace/core/error.hpp"
#include "spectrace/core/floats.hpp"

namespace spectrace {
namespace {

bool all_finite(std::span<const double> values) {
  return std::all_of(values.begin(), values.end(), [](double x) { return std::isfinite(x); });
}

/// -sum p ln p with p = value / sum. @pre values > 0.
double entropy(std::span<const double> values) {
  const double total = pairwise_sum(values);
  return -pairwise_sum(0, static_cast<std::int64_t>(values.size()), [=](std::int64_t i) {
    const double p = values[static_cast<std::size_t>(i)] / total;
    return p * std::log(p);
  });
}

/// ln (exp(log_sum) + num_zeros): log1p keeps the digits of a sum that is small beside the zeros.
double with_zeros(double log_sum, double num_zeros) {
  if (num_zeros == 0.0) return log_sum;
  const double log_zeros = std::log(num_zeros);
  return std::max(log_sum, log_zeros) + std::log1p(std::exp(-std::abs(log_sum - log_zeros)));
}

}  // namespace

std::span<const double> non_zero_levels(std::span<const double> ascending, std::int64_t size) {
  if (ascending.empty()) return ascending;
  const double threshold = static_cast<double>(size) * 0x1p-52 * std::max(ascending.back(), 0.0);
  return {std::upper_bound(ascending.begin(), ascending.end(), threshold), ascending.end()};
}

SheafSummary::SheafSummary(std::size_t num_beta)
    : lambda_max(kNaN),
      spectral_gap(kNaN),
      nullity(kNaN),
      spectral_entropy(kNaN),
      graph_lambda_2(kNaN),
      log_partition(num_beta, kNaN),
      non_zero(num_beta),
      graph(num_beta) {}

ValueLevels::ValueLevels(std::span<const double> singular_values, std::int64_t hidden_size)
    : hidden_size_(hidden_size),
      is_finite_(all_finite(singular_values)),
      squares_(singular_values.begin(), singular_values.end()) {
  SPECTRACE_ASSERT(static_cast<std::int64_t>(singular_values.size()) <= hidden_size);
  for (double& s : squares_) s *= s;
  if (is_finite_) std::sort(squares_.begin(), squares_.end());
}

const FactorLevels& ValueLevels::non_zero() const {
  std::call_once(once_, [this] {
    const auto found = non_zero_levels(squares_, hidden_size_);
    non_zero_.emplace(std::vector<double>(found.begin(), found.end()));
  });
  return *non_zero_;
}

SheafSummary summarize_sheaf(std::span<const double> graph_eigenvalues, const ValueLevels& values,
                             std::span<const double> beta) {
  static const FactorLevels kOne({1.0});
  SPECTRACE_ASSERT(!graph_eigenvalues.empty());
  const auto num_tokens = static_cast<std::int64_t>(graph_eigenvalues.size()), hidden_size = values.hidden_size();
  SheafSummary result(beta.size());
  if (!all_finite(graph_eigenvalues) || !values.is_finite()) return result;
  const std::int64_t larger = std::max(num_tokens, hidden_size);
  const std::span<const double> mu = non_zero_levels(graph_eigenvalues, larger),
                                squares = non_zero_levels(values.squares(), larger);
  // Both counts are below 2^53: exact as double.
  const auto size = static_cast<double>(num_tokens) * static_cast<double>(hidden_size);
  result.nullity = size - static_cast<double>(mu.size()) * static_cast<double>(squares.size());
  if (num_tokens > 1) result.graph_lambda_2 = std::cmp_equal(mu.size() + 1, num_tokens) ? mu.front() : 0.0;
  result.graph = thermodynamics(mu, kOne, beta);
  if (mu.empty() || squares.empty()) {
    result.lambda_max = result.spectral_entropy = 0.0;
    result.log_partition.assign(beta.size(), std::log(size));
    return result;
  }
  result.lambda_max = mu.back() * squares.back();
  result.spectral_gap = mu.front() * squares.front();
  result.spectral_entropy = entropy(mu) + entropy(squares);
  // Of prompts longer than D a square may be a zero that is none for the others.
  const bool is_shared = squares.size() == values.non_zero().values().size();
  result.non_zero = is_shared ? thermodynamics(mu, values.non_zero(), beta)
                              : thermodynamics(mu, FactorLevels({squares.begin(), squares.end()}), beta);
  for (std::size_t i = 0; i < beta.size(); ++i)
    result.log_partition[i] = with_zeros(result.non_zero.log_partition[i], result.nullity);
  return result;
}

}  // namespace spectrace
