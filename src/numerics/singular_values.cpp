#include "spectrace/numerics/singular_values.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include "pairwise_sum.hpp"
#include "reflector_error.hpp"
#include "spectrace/core/error.hpp"
#include "spectrace/core/floats.hpp"
#include "spectrace/core/parallel.hpp"
#include "spectrace/numerics/dense_svd.hpp"
#include "tall_qr.hpp"

namespace spectrace {
namespace {

constexpr std::int64_t kTileEntries = 1 << 16;    // 512 KiB: one conversion and its transposition stay in the cache
constexpr std::int64_t kWorkBytes = 400ll << 20;  // a block above four times the width is not worth more than this
constexpr std::int64_t kMinBlockRows = 2048;      // narrow matrices: calls would cost more than their work
constexpr double kDriftFactor = 2;                // of the error bound
constexpr int kSafeExponent = 400;  // squares of entries up to 2^400, and sums of them, are far from overflow

std::int64_t tile_rows(std::int64_t num_columns) { return std::max<std::int64_t>(1, kTileEntries / num_columns); }

/// Rows of a block that goes under R. High blocks have few panels, and a matrix that is one block is factorized without
/// an R above it, which saves 2/3 n^3 flops; less where that much memory is not to be had.
std::int64_t block_rows(std::int64_t num_columns) {
  for (const std::int64_t multiple : {4, 2}) {
    if ((multiple + 1) * num_columns * num_columns * 8 <= kWorkBytes)
      return std::max(kMinBlockRows, multiple * num_columns);
  }
  return std::max(kMinBlockRows, num_columns);
}

/// Up to 1.5 times as high as wide, reducing to R first costs more than it saves.
bool is_reduced_at_once(std::int64_t num_rows, std::int64_t num_columns) {
  return num_rows <= num_columns + num_columns / 2;
}

std::int64_t capacity_for(std::int64_t max_rows, std::int64_t num_columns) {
  return is_reduced_at_once(max_rows, num_columns) ? max_rows
                                                   : std::min(max_rows, num_columns + block_rows(num_columns));
}

double max_abs(const double* data, std::int64_t count) {
  double largest = 0.0;
  double poison = 0.0;  // x * 0 is NaN where x is not finite, which a maximum would pass over
  for (std::int64_t i = 0; i < count; ++i) {
    largest = std::max(largest, std::abs(data[i]));
    poison += data[i] * 0.0;
  }
  return poison == 0.0 ? largest : kNaN;
}

}  // namespace

TallSingularValues::~TallSingularValues() = default;

TallSingularValues::TallSingularValues(std::int64_t num_columns)
    : TallSingularValues(num_columns, std::numeric_limits<std::int64_t>::max()) {}

TallSingularValues::TallSingularValues(std::int64_t num_columns, std::int64_t max_rows) : num_columns_(num_columns) {
  SPECTRACE_ASSERT(num_columns >= 0);
  if (num_columns == 0) return;
  const auto options = at::TensorOptions(at::kDouble);
  work_ = at::empty({num_columns, capacity_for(max_rows, num_columns)}, options).t();
}

void TallSingularValues::add_rows(const Tensor& block) {
  SPECTRACE_ASSERT(block.dim() == 2 && block.size(1) == num_columns_);
  const std::int64_t num_rows = block.size(0);
  if (num_columns_ == 0 || num_rows == 0) {
    num_rows_ += num_rows;
    return;
  }
  for (std::int64_t row = 0; row < num_rows;) {
    if (num_filled_ == work_.size(0)) factorize();
    const std::int64_t count = std::min(num_rows - row, work_.size(0) - num_filled_);
    append(block.narrow(0, row, count));
    row += count;
  }
}

/// Converts rows and puts them under those that are there.
void TallSingularValues::append(const Tensor& rows) {
  const double largest = convert(rows);
  if (!std::isfinite(largest)) throw NumericalError("an entry of the matrix is not finite");
  if (rescale(largest)) convert(rows);
  for (const double sum : row_sums_) sum_of_squares_ += sum;
  num_filled_ += rows.size(0);
  num_rows_ += rows.size(0);
}

/// Puts the rows, times 2^exponent_, into work_, and the sums of their squares into row_sums_. Returns the largest
/// absolute entry before scaling, NaN if one is not finite.
double TallSingularValues::convert(const Tensor& rows) {
  const std::int64_t count = rows.size(0), height = tile_rows(num_columns_);
  const std::int64_t num_tiles = (count + height - 1) / height;
  row_sums_.assign(static_cast<std::size_t>(count), 0.0);
  std::vector<double> largest(static_cast<std::size_t>(num_tiles));
  parallel_for(num_tiles, [&](std::int64_t task) {
    const std::int64_t first = task * height, size = std::min(height, count - first);
    const Tensor tile = at::empty({size, num_columns_}, at::kDouble);
    tile.copy_(rows.narrow(0, first, size));
    const double* data = tile.const_data_ptr<double>();
    largest[static_cast<std::size_t>(task)] = max_abs(data, tile.numel());
    if (exponent_ != 0) tile.mul_(std::ldexp(1.0, exponent_));
    for (std::int64_t row = 0; row < size; ++row) {
      const double* entries = data + row * num_columns_;
      row_sums_[static_cast<std::size_t>(first + row)] =
          pairwise_sum(0, num_columns_, [=](std::int64_t i) { return entries[i] * entries[i]; });
    }
    work_.narrow(0, num_filled_ + first, size).copy_(tile);
  });
  double result = 0.0;
  for (const double x : largest) result = std::isnan(x) || std::isnan(result) ? kNaN : std::max(result, x);
  return result;
}

/// Keeps the largest entry within 2^(+-kSafeExponent): a power of two changes no bit of an entry. Only float64 entries
/// come near the ends of the range. Returns whether the scale has changed.
bool TallSingularValues::rescale(double largest) {
  if (largest == 0.0) return false;
  const int magnitude = std::ilogb(largest) + exponent_;
  if (magnitude <= kSafeExponent && (is_scaled_ || magnitude >= -kSafeExponent)) {
    is_scaled_ = true;
    return false;
  }
  const int exponent = std::clamp(-std::ilogb(largest), -1000, 1000);
  const int change = exponent - exponent_;
  scale_to(exponent);
  is_scaled_ = true;
  return change != 0;
}

void TallSingularValues::scale_to(int exponent) {
  const int change = exponent - exponent_;
  exponent_ = exponent;
  if (change == 0 || num_filled_ == 0) return;
  work_.narrow(0, 0, num_filled_).mul_(std::ldexp(1.0, change));
  sum_of_squares_ = std::ldexp(sum_of_squares_, 2 * change);
}

/// Replaces the rows in work_ by their R factor.
void TallSingularValues::factorize() {
  if (!qr_) qr_ = std::make_unique<TallQr>(work_.size(0), num_columns_);
  const Block rows{work_.mutable_data_ptr<double>(), num_filled_, num_columns_, work_.size(0)};
  if (num_reflectors_ == 0) {
    qr_->factorize(rows);
  } else {
    qr_->update(rows.top(num_columns_), rows.below(num_columns_));
  }
  num_reflectors_ += num_columns_;
  max_height_ = std::max(max_height_, num_filled_);
  num_filled_ = num_columns_;
}

TriangleOfRows TallSingularValues::triangle() {
  SPECTRACE_ASSERT(num_columns_ > 0 && num_rows_ >= num_columns_);
  if (num_reflectors_ == 0 || num_filled_ > num_columns_) factorize();
  qr_.reset();
  TriangleOfRows left{{}, {exponent_, sum_of_squares_, num_rows_, num_reflectors_, max_height_}};
  left.entries.reserve(static_cast<std::size_t>(num_columns_ * (num_columns_ + 1) / 2));
  const Block r{work_.mutable_data_ptr<double>(), num_columns_, num_columns_, work_.size(0)};
  for (std::int64_t j = 0; j < num_columns_; ++j)
    left.entries.insert(left.entries.end(), r.column(j), r.column(j) + j + 1);
  work_.reset();
  return left;
}

TallSingularValues TallSingularValues::of_triangles(std::int64_t num_columns) { return {num_columns, 2 * num_columns}; }

void TallSingularValues::add_triangle(std::span<const double> entries, const TriangleFacts& facts) {
  const std::int64_t n = num_columns_;
  SPECTRACE_ASSERT(n > 0 && std::cmp_equal(entries.size(), n * (n + 1) / 2) && facts.num_reflectors > 0);
  SPECTRACE_ASSERT(num_rows_ == 0 || num_filled_ == n);
  // Both in the scale of the larger one. What is zero has none.
  int exponent = facts.exponent;
  if (sum_of_squares_ > 0) exponent = facts.sum_of_squares > 0 ? std::min(exponent_, facts.exponent) : exponent_;
  scale_to(exponent);
  const double scale = std::ldexp(1.0, exponent - facts.exponent);
  const Block all{work_.mutable_data_ptr<double>(), 2 * n, n, work_.size(0)};
  const Block free = all.below(num_filled_).top(n);
  const double* entry = entries.data();
  for (std::int64_t j = 0; j < n; ++j) {
    double* const end = std::transform(entry, entry + j + 1, free.column(j), [=](double x) { return x * scale; });
    std::fill(end, free.column(j) + n, 0.0);
    entry += j + 1;
  }
  sum_of_squares_ += std::ldexp(facts.sum_of_squares, 2 * (exponent - facts.exponent));
  num_rows_ += facts.num_rows;
  // Parts have no row in common, so what they do to their rows is one after the other only within a part.
  num_reflectors_ = std::max(num_reflectors_, facts.num_reflectors);
  max_height_ = std::max(max_height_, facts.max_height);
  if (num_filled_ == n) {
    if (!qr_) qr_ = std::make_unique<TallQr>(2 * n, n);
    qr_->merge(all.top(n), all.below(n));
    num_reflectors_ += n;
    max_height_ = std::max(max_height_, 2 * n);
  }
  num_filled_ = n;
}

/// A matrix with the singular values of all rows, at most 1.5 times as high as wide; gives up work_.
Tensor TallSingularValues::reduced() {
  const bool has_r = num_reflectors_ > 0;
  if (has_r ? num_filled_ > num_columns_ : !is_reduced_at_once(num_filled_, num_columns_)) factorize();
  qr_.reset();
  if (num_filled_ < work_.size(0)) work_ = work_.narrow(0, 0, num_filled_).t().contiguous().t();
  return std::move(work_);
}

SingularValues TallSingularValues::finish() {
  if (num_columns_ == 0 || num_rows_ == 0) return {};
  const Tensor a = reduced();
  SingularValues result;
  const double norm = std::sqrt(sum_of_squares_);
  // How far the 2-norm of the values may lie from the norm of the entries: an error of each value, and that of the sum.
  const double tolerance = (std::sqrt(static_cast<double>(std::min(a.size(0), a.size(1)))) * relative_error(a) +
                            static_cast<double>(num_rows_ + num_columns_) * kUnitRoundoff) *
                           norm;
  CheckedSingularValues checked = checked_singular_values(a, norm, tolerance);
  result.values = std::move(checked.values);
  result.error_bound = relative_error(a) * result.values.front() + kDriftFactor * checked.norm_drift;
  for (double& value : result.values) value = std::ldexp(value, -exponent_);
  if (!std::isfinite(result.values.front())) throw beyond_range("the spectral norm");
  // Scaling back is exact but for subnormal results.
  result.error_bound = std::ldexp(result.error_bound, -exponent_);
  if (exponent_ > 0) result.error_bound += std::numeric_limits<double>::denorm_min();
  return result;
}

/// Of the largest singular value; derivation in docs/numerics.md, "Singular values".
double TallSingularValues::relative_error(const Tensor& a) const {
  const std::int64_t num_columns = std::min(a.size(0), a.size(1));
  const std::int64_t num_reflectors = num_reflectors_ + 2 * num_columns;
  const std::int64_t height = std::max({max_height_, a.size(0), a.size(1)});
  return reflector_error(static_cast<double>(num_reflectors) * static_cast<double>(height) +
                         static_cast<double>(2 * num_columns) * static_cast<double>(kWidestBand));
}

double singular_values_flops(std::int64_t num_rows, std::int64_t num_columns) {
  const std::int64_t rows = std::max(num_rows, num_columns), columns = std::min(num_rows, num_columns);
  const auto m = static_cast<double>(rows), n = static_cast<double>(columns);
  if (is_reduced_at_once(rows, columns)) return 4 * n * n * (m - n / 3);
  return triangle_flops(rows, columns) + 8.0 / 3.0 * n * n * n;
}

double triangle_flops(std::int64_t num_rows, std::int64_t num_columns) {
  const auto m = static_cast<double>(num_rows), n = static_cast<double>(num_columns);
  return 2 * n * n * (m - n / 3);
}

double join_flops(std::int64_t num_parts, std::int64_t num_columns) {
  const auto n = static_cast<double>(num_columns);
  return (2.0 / 3.0 * static_cast<double>(num_parts - 1) + 8.0 / 3.0) * n * n * n;
}

std::int64_t singular_values_bytes(std::int64_t num_rows, std::int64_t num_columns) {
  const std::int64_t m = std::max(num_rows, num_columns), n = std::min(num_rows, num_columns);
  if (n == 0) return 0;
  const std::int64_t work = 8 * capacity_for(m, n) * n;
  if (is_reduced_at_once(m, n)) return work + two_stage_bytes(m, n);
  const std::int64_t triangle = 8 * n * n;
  return std::max({work + tall_qr_bytes(capacity_for(m, n), n), work + triangle, triangle + two_stage_bytes(n, n)});
}

std::int64_t triangle_bytes(std::int64_t num_rows, std::int64_t num_columns) {
  const std::int64_t packed = 4 * num_columns * (num_columns + 1);
  const std::int64_t capacity = capacity_for(num_rows, num_columns);
  return 8 * capacity * num_columns + std::max(packed, tall_qr_bytes(capacity, num_columns));
}

std::int64_t join_bytes(std::int64_t num_columns) {
  const std::int64_t triangle = 8 * num_columns * num_columns;
  return std::max(2 * triangle + tall_qr_bytes(2 * num_columns, num_columns),
                  triangle + two_stage_bytes(num_columns, num_columns));
}

SingularValues singular_values(const Tensor& w) {
  SPECTRACE_ASSERT(w.dim() == 2);
  const Tensor tall = w.size(0) >= w.size(1) ? w : w.t();
  TallSingularValues solver(tall.size(1), tall.size(0));
  solver.add_rows(tall);
  return solver.finish();
}

}  // namespace spectrace
