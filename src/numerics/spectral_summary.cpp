#include "spectrace/numerics/spectral_summary.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "pairwise_sum.hpp"
#include "spectrace/core/error.hpp"
#include "spectrace/core/floats.hpp"
#include "spectrace/core/parallel.hpp"
#include "spectrace/numerics/device.hpp"
#include "spectrace/numerics/numerical_error.hpp"

namespace spectrace {
namespace {

constexpr std::int64_t kEntriesAtOnce = 1 << 17;  // 1 MiB of float64 at a time, however large the matrix

/// Exponent of a power of two that brings float64 entries to where squares neither overflow nor vanish; 0 for all
/// else, which has room enough.
int scaling_exponent(const Tensor& w) {
  if (w.scalar_type() != at::kDouble || w.numel() == 0) return 0;
  const double largest = at::linalg_vector_norm(w, std::numeric_limits<double>::infinity()).item<double>();
  if (!std::isfinite(largest) || largest == 0.0) return 0;
  const int exponent = std::ilogb(largest);
  return std::abs(exponent) <= 400 ? 0 : std::clamp(-exponent, -1000, 1000);
}

/// Calls visit(row, entries) for every row of w * 2^exponent in float64, row by row on any thread.
void for_each_row(const Tensor& w, int exponent, const std::function<void(std::int64_t, const double*)>& visit) {
  const std::int64_t num_rows = w.size(0), num_columns = w.size(1);
  const std::int64_t block = std::max<std::int64_t>(1, kEntriesAtOnce / std::max<std::int64_t>(1, num_columns));
  parallel_for((num_rows + block - 1) / block, [&](std::int64_t i) {
    const std::int64_t begin = i * block, count = std::min(block, num_rows - begin);
    Tensor rows = at::empty({count, num_columns}, at::TensorOptions(at::kDouble));
    rows.copy_(w.narrow(0, begin, count));
    if (exponent != 0) rows.mul_(std::ldexp(1.0, exponent));
    const double* data = rows.const_data_ptr<double>();
    for (std::int64_t row = 0; row < count; ++row) visit(begin + row, data + row * num_columns);
  });
}

double square(double x) { return x * x; }

/// @pre size > 0
double norm_of(const double* x, std::int64_t size) {
  return std::sqrt(pairwise_sum(0, size, [=](std::int64_t i) { return square(x[i]); }));
}

/// The same, each row in a scale of its own: beside an entry near the end of the range, squares of others vanish.
double scaled_norm_of(const double* x, std::int64_t size) {
  double largest = 0.0;
  for (std::int64_t i = 0; i < size; ++i) largest = std::max(largest, std::abs(x[i]));
  if (largest == 0.0 || !std::isfinite(largest)) return norm_of(x, size);
  const double scale = std::ldexp(1.0, std::clamp(-std::ilogb(largest), -1000, 1000));
  const double sum = pairwise_sum(0, size, [=](std::int64_t i) { return square(x[i] * scale); });
  return std::sqrt(sum) / scale;
}

}  // namespace

void EntryMomentsOfRows::add_rows(const Tensor& w) {
  SPECTRACE_ASSERT(w.dim() == 2 && (means_.empty() || w.size(1) == num_columns_));
  if (w.numel() == 0) return;
  num_columns_ = w.size(1);
  const std::int64_t num_columns = num_columns_;
  const auto columns = static_cast<double>(num_columns);
  const std::size_t before = means_.size(), num_rows = before + static_cast<std::size_t>(w.size(0));
  for (auto* values : {&means_, &residuals_, &squares_, &deviations_}) values->resize(num_rows);

  // A row's mean is kept as rounded mean + residual: differences of means keep their digits where all are far from 0.
  for_each_row(w, exponent_, [&](std::int64_t index, const double* x) {
    const std::size_t row = before + static_cast<std::size_t>(index);
    const double mean = pairwise_sum(0, num_columns, [=](std::int64_t i) { return x[i]; }) / columns;
    means_[row] = mean;
    residuals_[row] = pairwise_sum(0, num_columns, [=](std::int64_t i) { return x[i] - mean; }) / columns;
    squares_[row] = pairwise_sum(0, num_columns, [=](std::int64_t i) { return square(x[i]); });
    deviations_[row] = pairwise_sum(0, num_columns, [=](std::int64_t i) { return square(x[i] - mean); });
  });
}

EntryMoments EntryMomentsOfRows::finish() const {
  if (means_.empty()) return {0.0, kNaN, kNaN};
  const std::size_t num_rows = means_.size();
  const auto rows = static_cast<double>(num_rows), columns = static_cast<double>(num_columns_);
  // Within rows and between rows (Chan, Golub, LeVeque 1983): sums of squares, so nothing cancels.
  std::vector<double> offsets(num_rows), between(num_rows);
  for (std::size_t row = 0; row < num_rows; ++row) offsets[row] = (means_[row] - means_[0]) + residuals_[row];
  const double offset = pairwise_sum(offsets) / rows;
  for (std::size_t row = 0; row < num_rows; ++row)
    between[row] = columns * (square(offsets[row] - offset) - square(residuals_[row]));
  const double count = rows * columns;
  const double variance = (pairwise_sum(deviations_) + pairwise_sum(between)) / (count - 1.0);
  EntryMoments result;
  const double scaled_norm = std::sqrt(pairwise_sum(squares_));
  result.frobenius_norm = std::ldexp(scaled_norm, -exponent_);
  if (std::isfinite(scaled_norm) && !std::isfinite(result.frobenius_norm)) throw beyond_range("the Frobenius norm");
  result.mean = std::ldexp(means_[0] + offset, -exponent_);
  result.std = count < 2.0 ? kNaN : std::ldexp(std::sqrt(variance < 0.0 ? 0.0 : variance), -exponent_);  // keeps NaN
  return result;
}

EntryMoments entry_moments(const Tensor& w) {
  EntryMomentsOfRows moments(scaling_exponent(w));
  moments.add_rows(w);
  return moments.finish();
}

SpectralSummary summarize_spectrum(std::span<const double> singular_values, double frobenius_norm,
                                   std::int64_t num_rows, std::int64_t num_columns) {
  if (singular_values.empty()) return {0.0, 0.0, kNaN, kNaN, kNaN, kNaN};
  const auto size = static_cast<std::int64_t>(singular_values.size());
  const auto sigma = [&](std::int64_t i) { return singular_values[static_cast<std::size_t>(i)]; };
  const double largest = sigma(0), smallest = sigma(size - 1);
  if (std::any_of(singular_values.begin(), singular_values.end(), [](double s) { return std::isnan(s); }))
    return {kNaN, frobenius_norm, kNaN, kNaN, kNaN, kNaN};

  SpectralSummary result;
  result.spectral_norm = largest;
  result.frobenius_norm = frobenius_norm;
  // Divided by the largest first: a sum of values near the end of the range would overflow.
  const double total = pairwise_sum(0, size, [&](std::int64_t i) { return sigma(i) / largest; });
  const double entropy = -pairwise_sum(0, size, [&](std::int64_t i) {
    const double p = sigma(i) / largest / total;
    return p == 0.0 ? 0.0 : p * std::log(p);
  });
  result.effective_rank = std::exp(entropy);
  result.stable_rank = square(frobenius_norm / largest);
  result.condition_number = smallest == 0.0 ? std::numeric_limits<double>::infinity() : largest / smallest;
  const double threshold = largest * static_cast<double>(std::max(num_rows, num_columns)) * 0x1p-23;
  result.numerical_rank = static_cast<double>(
      std::count_if(singular_values.begin(), singular_values.end(), [=](double s) { return s > threshold; }));
  return result;
}

std::vector<double> row_norms(const Tensor& w) {
  SPECTRACE_ASSERT(w.dim() == 2);
  const std::int64_t num_columns = w.size(1);
  const int exponent = scaling_exponent(w);
  if (!Device::of(w).is_host()) {
    const Tensor scaled = w.to(at::kDouble).mul(std::ldexp(1.0, exponent));
    const Tensor squares = Device::to_host(scaled.square().sum(1));
    std::vector<double> norms;
    for (std::int64_t row = 0; row < w.size(0); ++row)
      norms.push_back(std::ldexp(std::sqrt(squares.const_data_ptr<double>()[row]), -exponent));
    return norms;
  }
  std::vector<double> norms(static_cast<std::size_t>(w.size(0)));
  for_each_row(w, 0, [&](std::int64_t row, const double* x) {
    norms[static_cast<std::size_t>(row)] = exponent == 0 ? norm_of(x, num_columns) : scaled_norm_of(x, num_columns);
  });
  return norms;
}

}  // namespace spectrace
