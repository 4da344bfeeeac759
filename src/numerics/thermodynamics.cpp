#include "spectrace/numerics/thermodynamics.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <utility>

#include "level_sums_kernel.hpp"
#include "pairwise_sum.hpp"
#include "spectrace/core/error.hpp"
#include "spectrace/core/floats.hpp"
#include "spectrace/numerics/tensor.hpp"
#include "vector_kinds.hpp"

namespace spectrace {
namespace {

/// n x^2 exp(-x) <= 2^-56 for x >= this. exp(-x) <= x^-2 2^-56 / n where x = ln n + 56 ln 2 + 2 ln x.
double cutoff(double num_terms) {
  const double least = std::log(num_terms) + 56.0 * std::log(2.0);
  return least + 2.0 * std::log(least + 2.0 * std::log(2.0 * least));  // 2 ln x < x / 2 there
}

LevelSumsKernel level_sums_kernel(VectorKind kind) {
  switch (kind) {
#ifdef SPECTRACE_X86_KERNELS
    case VectorKind::avx512: return level_sums_avx512;
    case VectorKind::avx2: return level_sums_avx2;
#endif
    default: return level_sums_baseline;
  }
}

/// Sums over terms with x = beta (lambda - smallest) >= 0: nothing in them cancels.
struct BoltzmannSums {
  double weights = 0;  // exp(-x)
  double first = 0;    // x exp(-x)
  double second = 0;   // x^2 exp(-x)
};

/// The sums of the eigenvalues mu_a s_b for each beta. A row is the terms of one mu: with y = beta mu_a (s_max - s_min)
/// and h = beta s_min (mu_a - mu_min) they are x = h + y r_b. What needs an exp waits in one buffer for all beta: a
/// call of libtorch costs as much as a thousand exponentials.
class BoltzmannSummation {
 public:
  /// @pre neither is empty.
  BoltzmannSummation(std::span<const double> mu, const FactorLevels& s);

  std::vector<BoltzmannSums> sums(std::span<const double> beta);

 private:
  /// Exponents of one beta in the buffer: -h of the rows [0, end - begin), or -x of single terms.
  struct Segment {
    std::size_t beta_index;
    double beta;
    std::int64_t begin, end;
    bool is_rows;
  };
  double shift(double beta, std::size_t row) const { return beta * s_.front() * (mu_[row] - mu_.front()); }
  /// Buffers rows [0, num_rows), which the table of s has.
  void buffer_rows(double beta, std::size_t beta_index, std::size_t num_rows);
  /// Buffers the terms of rows [first, last). @pre shift <= cutoff in all of them.
  void buffer_terms(double beta, std::size_t beta_index, std::size_t first, std::size_t last);
  /// Exponentials of what is buffered, added to the sums of their beta.
  void flush();
  void add_rows(const Segment& segment);
  void add_terms(const Segment& segment);

  static constexpr std::int64_t kBufferSize = 1 << 12;

  const std::span<const double> mu_, s_;
  const FactorLevels& levels_;
  const double cutoff_;         // see buffer_terms
  Tensor exponents_, weights_;  // [>= kBufferSize] float64: -x or -h, and their exp
  double* exponent_;            // of exponents_
  std::int64_t num_buffered_ = 0;
  std::vector<Segment> segments_;
  std::vector<double> y_, of_levels_;  // scratch: [mu, rounded up], three times that
  std::vector<BoltzmannSums> of_rows_;
  std::vector<BoltzmannSums> sums_;  // [beta]
};

BoltzmannSummation::BoltzmannSummation(std::span<const double> mu, const FactorLevels& s)
    : mu_(mu),
      s_(s.values()),
      levels_(s),
      cutoff_(cutoff(static_cast<double>(mu.size()) * static_cast<double>(s_.size()))),
      y_((mu.size() + FactorLevels::kTogether - 1) / FactorLevels::kTogether * FactorLevels::kTogether),
      of_levels_(3 * y_.size()),
      of_rows_(mu.size()) {
  const auto capacity = std::max<std::int64_t>(kBufferSize, static_cast<std::int64_t>(std::max(s_.size(), mu.size())));
  exponents_ = at::empty({capacity}, at::TensorOptions(at::kDouble));
  weights_ = at::empty({capacity}, at::TensorOptions(at::kDouble));
  exponent_ = exponents_.mutable_data_ptr<double>();
}

void BoltzmannSummation::buffer_rows(double beta, std::size_t beta_index, std::size_t num_rows) {
  const auto count = static_cast<std::int64_t>(num_rows);
  if (num_buffered_ + count > exponents_.size(0)) flush();
  for (std::size_t a = 0; a < num_rows; ++a) exponent_[num_buffered_ + static_cast<std::int64_t>(a)] = -shift(beta, a);
  segments_.push_back({beta_index, beta, num_buffered_, num_buffered_ + count, true});
  num_buffered_ += count;
}

void BoltzmannSummation::buffer_terms(double beta, std::size_t beta_index, std::size_t first, std::size_t last) {
  // The smallest eigenvalue adds 1 to the sum of weights. Fewer than N = |mu| |s| terms with x > cutoff add less than
  // 2^-56 to each of the three sums: they are left out. mu and s ascend, so they lie at the ends.
  // All terms of a beta in one piece where that is possible: how they are summed must not depend on the other beta.
  const auto most = static_cast<std::int64_t>((last - first) * s_.size());
  if (num_buffered_ + most > exponents_.size(0)) flush();
  std::int64_t begin = num_buffered_;
  for (std::size_t a = first; a < last; ++a) {
    const double of_row = shift(beta, a), rate = beta * mu_[a];
    const auto x = [&](double s) { return of_row + rate * (s - s_.front()); };
    const auto end = std::partition_point(s_.begin(), s_.end(), [&](double s) { return x(s) <= cutoff_; });
    const auto count = static_cast<std::int64_t>(end - s_.begin());
    if (num_buffered_ + count > exponents_.size(0)) {
      segments_.push_back({beta_index, beta, begin, num_buffered_, false});
      flush();
      begin = 0;
    }
    for (std::int64_t b = 0; b < count; ++b) exponent_[num_buffered_ + b] = -x(s_[static_cast<std::size_t>(b)]);
    num_buffered_ += count;
  }
  segments_.push_back({beta_index, beta, begin, num_buffered_, false});
}

void BoltzmannSummation::flush() {
  if (num_buffered_ > 0) {
    Tensor weights = weights_.narrow(0, 0, num_buffered_);
    at::exp_out(weights, exponents_.narrow(0, 0, num_buffered_));
  }
  for (const Segment& segment : segments_) {
    if (segment.is_rows)
      add_rows(segment);
    else
      add_terms(segment);
  }
  segments_.clear();
  num_buffered_ = 0;
}

void BoltzmannSummation::add_terms(const Segment& segment) {
  const double* const weight = weights_.const_data_ptr<double>();
  const double* const exponent = exponent_;
  BoltzmannSums& sums = sums_[segment.beta_index];
  sums.weights += pairwise_sum(segment.begin, segment.end, [=](std::int64_t i) { return weight[i]; });
  sums.first -= pairwise_sum(segment.begin, segment.end, [=](std::int64_t i) { return exponent[i] * weight[i]; });
  sums.second +=
      pairwise_sum(segment.begin, segment.end, [=](std::int64_t i) { return exponent[i] * exponent[i] * weight[i]; });
}

void BoltzmannSummation::add_rows(const Segment& segment) {
  const std::int64_t num_rows = segment.end - segment.begin;
  const double* const weight = weights_.const_data_ptr<double>() + segment.begin;
  const double* const exponent = exponent_ + segment.begin;
  const auto rows = static_cast<std::size_t>(num_rows);
  const std::size_t count = (rows + FactorLevels::kTogether - 1) / FactorLevels::kTogether * FactorLevels::kTogether;
  for (std::size_t a = 0; a < rows; ++a) y_[a] = segment.beta * mu_[a] * levels_.width();
  std::fill(y_.begin() + static_cast<std::ptrdiff_t>(rows), y_.begin() + static_cast<std::ptrdiff_t>(count), 0.0);
  levels_.sums(std::span(y_).first(count), std::span(of_levels_).first(3 * count));
  for (std::size_t a = 0; a < rows; ++a) {
    // x = h + y r, x^2 = h^2 + 2 h y r + y^2 r^2
    const double h = -exponent[a], y = y_[a];
    const double zeroth = of_levels_[a], first = of_levels_[count + a], second = of_levels_[2 * count + a];
    of_rows_[a] = {weight[a] * zeroth, weight[a] * (h * zeroth + y * first),
                   weight[a] * (h * (h * zeroth + 2.0 * y * first) + y * y * second)};
  }
  const auto sum_of = [&](double BoltzmannSums::*part) {
    return pairwise_sum(0, num_rows, [&](std::int64_t i) { return of_rows_[static_cast<std::size_t>(i)].*part; });
  };
  BoltzmannSums& sums = sums_[segment.beta_index];
  sums.weights += sum_of(&BoltzmannSums::weights);
  sums.first += sum_of(&BoltzmannSums::first);
  sums.second += sum_of(&BoltzmannSums::second);
}

std::vector<BoltzmannSums> BoltzmannSummation::sums(std::span<const double> beta) {
  sums_.assign(beta.size(), {});
  for (std::size_t i = 0; i < beta.size(); ++i) {
    const auto num_where = [&](auto holds) {
      return static_cast<std::size_t>(std::partition_point(mu_.begin(), mu_.end(), holds) - mu_.begin());
    };
    const std::size_t num_near =
        num_where([&](double mu) { return beta[i] * s_.front() * (mu - mu_.front()) <= cutoff_; });
    const std::size_t num_rows = std::min(
        num_near, num_where([&](double mu) { return beta[i] * mu * levels_.width() < FactorLevels::kTableEnd; }));
    if (num_rows > 0) buffer_rows(beta[i], i, num_rows);
    if (num_rows < num_near) buffer_terms(beta[i], i, num_rows, num_near);
  }
  flush();
  return std::move(sums_);
}

}  // namespace

std::size_t FactorLevels::interval_of(double y) {
  // The exponent and the first four bits of the fraction.
  if (y < kFirstLevelEnd) return 0;
  return 1 + (std::bit_cast<std::uint64_t>(y) >> 48) - (std::bit_cast<std::uint64_t>(kFirstLevelEnd) >> 48);
}

double FactorLevels::end_of(std::size_t interval) {
  return std::bit_cast<double>(std::bit_cast<std::uint64_t>(kFirstLevelEnd) +
                               (static_cast<std::uint64_t>(interval) << 48));
}

FactorLevels::FactorLevels(std::vector<double> s) : s_(std::move(s)) {
  if (s_.empty()) return;
  std::vector<double> ratios(s_.size(), 0.0), terms(s_.size());
  if (width() > 0.0)
    for (std::size_t b = 0; b < s_.size(); ++b) ratios[b] = (s_[b] - s_.front()) / width();
  // All that is asked of equal levels is f(0).
  const std::size_t num_intervals = width() > 0.0 ? interval_of(kTableEnd) : 1;
  table_.reserve(num_intervals * kLevelTerms);
  const double largest = cutoff(0x1p16 * static_cast<double>(s_.size()));
  for (std::size_t interval = 0; interval < num_intervals; ++interval) {
    const double y = end_of(interval);
    const auto end = std::partition_point(ratios.begin(), ratios.end(), [=](double r) { return y * r <= largest; });
    const auto count = static_cast<std::size_t>(end - ratios.begin());
    for (std::size_t b = 0; b < count; ++b) terms[b] = std::exp(-y * ratios[b]);
    double factorial = 1.0;
    for (std::size_t k = 0; k < kLevelTerms; ++k) {
      table_.push_back(pairwise_sum(0, static_cast<std::int64_t>(count),
                                    [&](std::int64_t b) { return terms[static_cast<std::size_t>(b)]; }) /
                       factorial);
      for (std::size_t b = 0; b < count; ++b) terms[b] *= ratios[b];
      factorial *= static_cast<double>(k + 1);
    }
  }
}

void FactorLevels::sums(std::span<const double> y, std::span<double> found) const {
  SPECTRACE_ASSERT(y.size() % kTogether == 0 && found.size() == 3 * y.size());
  static const LevelSumsKernel kernel = level_sums_kernel(best_vector_kind());
  kernel(table_.data(), y.data(), static_cast<std::int64_t>(y.size()), found.data());
}

Thermodynamics::Thermodynamics(std::size_t num_beta)
    : log_partition(num_beta, kNaN),
      internal_energy(num_beta, kNaN),
      heat_capacity(num_beta, kNaN),
      entropy(num_beta, kNaN) {}

Thermodynamics thermodynamics(std::span<const double> mu, const FactorLevels& s, std::span<const double> beta) {
  Thermodynamics result(beta.size());
  if (mu.empty() || s.values().empty()) return result;
  const double smallest = mu.front() * s.values().front();
  const std::vector<BoltzmannSums> sums = BoltzmannSummation(mu, s).sums(beta);
  for (std::size_t i = 0; i < beta.size(); ++i) {
    const auto& [weights, first, second] = sums[i];
    const double log_sum = std::log(weights), mean = first / weights;  // of x
    result.log_partition[i] = log_sum - beta[i] * smallest;
    result.internal_energy[i] = smallest + mean / beta[i];
    result.heat_capacity[i] = std::max(0.0, second / weights - mean * mean);
    result.entropy[i] = log_sum + mean;
  }
  return result;
}

}  // namespace spectrace
