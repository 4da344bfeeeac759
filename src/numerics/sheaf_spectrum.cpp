#include "spectrace/numerics/sheaf_spectrum.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "pairwise_sum.hpp"
#include "spectrace/core/error.hpp"
#include "spectrace/numerics/tensor.hpp"

namespace spectrace {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

double sum_of(std::span<const double> values) {
  return pairwise_sum(0, static_cast<std::int64_t>(values.size()),
                      [=](std::int64_t i) { return values[static_cast<std::size_t>(i)]; });
}

bool all_finite(std::span<const double> values) {
  return std::all_of(values.begin(), values.end(), [](double x) { return std::isfinite(x); });
}

/// The values that do not count as zero, ascending.
std::vector<double> non_zero(std::vector<double> values, double relative_threshold) {
  std::sort(values.begin(), values.end());
  if (values.empty()) return values;
  const double threshold = relative_threshold * std::max(values.back(), 0.0);
  values.erase(values.begin(), std::upper_bound(values.begin(), values.end(), threshold));
  return values;
}

/// -sum p ln p with p = value / sum. @pre values > 0.
double entropy(std::span<const double> values) {
  const double total = sum_of(values);
  return -pairwise_sum(0, static_cast<std::int64_t>(values.size()), [=](std::int64_t i) {
    const double p = values[static_cast<std::size_t>(i)] / total;
    return p * std::log(p);
  });
}

/// ln Z of the eigenvalues mu_a s_b and a number of zeros, for each beta. What needs an exp waits in one buffer for all
/// beta: a call of libtorch costs as much as a thousand exponentials.
class PartitionFunction {
 public:
  /// @pre mu and s are ascending, > 0, not empty.
  PartitionFunction(std::vector<double> mu, std::vector<double> s, double num_zeros);

  std::vector<double> log_partition(std::span<const double> beta);

 private:
  /// Terms of one beta in buffer_.
  struct Segment {
    std::size_t beta_index;
    std::int64_t begin, end;
  };
  /// A row is the terms of one mu. The sum of rows [0, num_rows), where beta mu s_max <= 1, from the power sums of s.
  double series_rows(double beta, std::size_t num_rows);
  /// Buffers the exponents of the rows from first_row on.
  void buffer_rows(double beta, std::size_t beta_index, std::size_t first_row);
  /// Adds the exponentials of what is buffered to the sums of their beta.
  void flush();

  // exp(-x) for x <= 1 to 20 terms: the first one left out is below 1/20! = 4e-19 of a sum >= e^-1.
  static constexpr std::size_t kNumTerms = 20;
  static constexpr std::int64_t kBufferSize = 1 << 13;

  const std::vector<double> mu_, s_;
  const double num_zeros_;
  const double smallest_;                         // of all eigenvalues
  const double cutoff_;                           // see buffer_rows
  std::array<double, kNumTerms> coefficients_{};  // (-1)^k / k! sum_b (s_b / s_max)^k
  std::vector<double> arguments_, row_sums_;      // [mu], scratch
  Tensor buffer_;                                 // [>= kBufferSize] float64, exponents waiting for exp
  std::int64_t num_buffered_ = 0;
  std::vector<Segment> segments_;
  std::vector<double> sums_;  // [beta] Z e^(beta smallest) without the zeros
};

PartitionFunction::PartitionFunction(std::vector<double> mu, std::vector<double> s, double num_zeros)
    : mu_(std::move(mu)),
      s_(std::move(s)),
      num_zeros_(num_zeros),
      smallest_(num_zeros > 0.0 ? 0.0 : mu_.front() * s_.front()),
      cutoff_(std::log(static_cast<double>(mu_.size() * s_.size())) + 56.0 * std::log(2.0)),
      arguments_(mu_.size()),
      row_sums_(mu_.size()) {
  std::vector<double> powers(s_.size(), 1.0), ratios;
  for (const double x : s_) ratios.push_back(x / s_.back());
  double factorial = 1.0;
  for (std::size_t k = 0; k < kNumTerms; ++k) {
    coefficients_[k] = sum_of(powers) / factorial;
    for (std::size_t b = 0; b < s_.size(); ++b) powers[b] *= ratios[b];
    factorial *= -static_cast<double>(k + 1);
  }
  const auto capacity = std::max<std::int64_t>(kBufferSize, static_cast<std::int64_t>(s_.size()));
  buffer_ = at::empty({capacity}, at::TensorOptions(at::kDouble));
}

double PartitionFunction::series_rows(double beta, std::size_t num_rows) {
  // One Horner step over all rows at a time: the compiler makes vectors of that.
  for (std::size_t a = 0; a < num_rows; ++a) {
    arguments_[a] = beta * mu_[a] * s_.back();
    row_sums_[a] = coefficients_[kNumTerms - 1];
  }
  for (std::size_t k = kNumTerms - 1; k-- > 0;)
    for (std::size_t a = 0; a < num_rows; ++a) row_sums_[a] = row_sums_[a] * arguments_[a] + coefficients_[k];
  return sum_of(std::span(row_sums_).first(num_rows));
}

void PartitionFunction::buffer_rows(double beta, std::size_t beta_index, std::size_t first_row) {
  // With x = beta (lambda - smallest), Z e^(beta smallest) = num_zeros + sum e^-x >= 1, as the smallest eigenvalue adds
  // 1. Fewer than N = |mu| |s| terms with x > ln N + 56 ln 2 = cutoff add less than N e^-cutoff = 2^-56 to that: an
  // eighth of the rounding error of the sum itself. They are left out; mu and s ascend, so they lie at the ends.
  const double shift = beta * smallest_, largest_argument = cutoff_ + shift;
  // All terms of a beta in one piece where that is possible: how they are summed must not depend on the other beta.
  const auto most = static_cast<std::int64_t>((mu_.size() - first_row) * s_.size());
  if (num_buffered_ + most > buffer_.size(0)) flush();
  std::int64_t begin = num_buffered_;
  double* const exponents = buffer_.mutable_data_ptr<double>();
  for (std::size_t a = first_row; a < mu_.size(); ++a) {
    const double rate = beta * mu_[a];
    if (rate * s_.front() > largest_argument) break;
    const auto end = std::partition_point(s_.begin(), s_.end(), [=](double s) { return rate * s <= largest_argument; });
    const auto count = static_cast<std::int64_t>(end - s_.begin());
    if (num_buffered_ + count > buffer_.size(0)) {
      segments_.push_back({beta_index, begin, num_buffered_});
      flush();
      begin = 0;
    }
    for (std::int64_t b = 0; b < count; ++b)
      exponents[num_buffered_ + b] = shift - rate * s_[static_cast<std::size_t>(b)];
    num_buffered_ += count;
  }
  segments_.push_back({beta_index, begin, num_buffered_});
}

void PartitionFunction::flush() {
  if (num_buffered_ > 0) buffer_.narrow(0, 0, num_buffered_).exp_();
  const double* const terms = buffer_.const_data_ptr<double>();
  for (const Segment& segment : segments_)
    sums_[segment.beta_index] += pairwise_sum(segment.begin, segment.end, [=](std::int64_t i) { return terms[i]; });
  segments_.clear();
  num_buffered_ = 0;
}

std::vector<double> PartitionFunction::log_partition(std::span<const double> beta) {
  sums_.assign(beta.size(), 0.0);
  for (std::size_t i = 0; i < beta.size(); ++i) {
    const auto first =
        std::partition_point(mu_.begin(), mu_.end(), [&](double mu) { return beta[i] * mu * s_.back() <= 1.0; });
    const auto num_series = static_cast<std::size_t>(first - mu_.begin());
    // beta smallest <= 1 wherever there is such a row
    if (num_series > 0) sums_[i] = series_rows(beta[i], num_series) * std::exp(beta[i] * smallest_);
    if (num_series < mu_.size()) buffer_rows(beta[i], i, num_series);
  }
  flush();
  std::vector<double> result;
  for (std::size_t i = 0; i < beta.size(); ++i) {
    // log1p keeps the digits of a sum that is small beside the zeros.
    const double log_sum = sums_[i] < num_zeros_ ? std::log(num_zeros_) + std::log1p(sums_[i] / num_zeros_)
                                                 : std::log(num_zeros_ + sums_[i]);
    result.push_back(log_sum - beta[i] * smallest_);
  }
  return result;
}

}  // namespace

SheafSummary summarize_sheaf(std::span<const double> graph_eigenvalues, std::span<const double> singular_values,
                             std::int64_t hidden_size, std::span<const double> beta) {
  SPECTRACE_ASSERT(!graph_eigenvalues.empty() && static_cast<std::int64_t>(singular_values.size()) <= hidden_size);
  const auto num_tokens = static_cast<std::int64_t>(graph_eigenvalues.size());
  if (!all_finite(graph_eigenvalues) || !all_finite(singular_values))
    return {kNan, kNan, kNan, kNan, std::vector<double>(beta.size(), kNan)};
  const double threshold = static_cast<double>(std::max(num_tokens, hidden_size)) * 0x1p-52;
  std::vector<double> mu = non_zero({graph_eigenvalues.begin(), graph_eigenvalues.end()}, threshold);
  std::vector<double> squares(singular_values.begin(), singular_values.end());
  for (double& s : squares) s *= s;
  squares = non_zero(std::move(squares), threshold);
  // Both counts are below 2^53: exact as double.
  const auto size = static_cast<double>(num_tokens) * static_cast<double>(hidden_size);
  if (mu.empty() || squares.empty()) return {0.0, kNan, size, 0.0, std::vector<double>(beta.size(), std::log(size))};
  SheafSummary result;
  result.nullity = size - static_cast<double>(mu.size()) * static_cast<double>(squares.size());
  result.lambda_max = mu.back() * squares.back();
  result.spectral_gap = mu.front() * squares.front();
  result.spectral_entropy = entropy(mu) + entropy(squares);
  result.log_partition = PartitionFunction(std::move(mu), std::move(squares), result.nullity).log_partition(beta);
  return result;
}

}  // namespace spectrace
