#include "spectrace/numerics/point_cloud.hpp"

#include <algorithm>
#include <cmath>

#include "double_double.hpp"
#include "spectrace/core/error.hpp"
#include "spectrace/core/floats.hpp"

// An orthogonal matrix whose first row is (1 ... 1)/sqrt(N) turns the rows of X: the first becomes sqrt(N) times their
// mean, and the others, which know nothing of the mean, have the singular values of X less its mean. Helmert's matrix
// is one whose row k needs the first k + 1 vectors alone, so neither has X to come twice nor is a mean taken off that
// is not yet known:
//   h_k = sqrt(k/(k + 1)) (x_{k+1} - mean of x_1 ... x_k).

namespace spectrace {
namespace {

/// What turning takes of the exact singular values, in units of roundoff times the Frobenius norm of X. A mean is off
/// by 2 u |mean|, the difference by u more, the factor and its product by 2.5 u: 5.5 u (|mean| + |x|) by entry; the
/// means of the first k vectors have at most twice the norm of X together (Hardy's inequality); 4 u for the mean's own
/// row.
constexpr double kTurningError = 18;

/// Up to so many vectors it takes less to hold them than their triangle.
bool are_held(std::int64_t num_columns, std::int64_t most_vectors) {
  return most_vectors <= num_columns + num_columns / 2;
}

double frobenius_norm(const std::vector<double>& singular_values) {
  if (singular_values.empty() || singular_values.front() == 0) return 0;
  double sum = 0;  // of squares that neither overflow nor vanish
  for (const double value : singular_values)
    sum += (value / singular_values.front()) * (value / singular_values.front());
  return singular_values.front() * std::sqrt(sum);
}

}  // namespace

PointCloud::PointCloud(std::int64_t num_columns, std::int64_t most_vectors)
    : num_columns_(num_columns),
      most_vectors_(most_vectors),
      sum_high_(static_cast<std::size_t>(num_columns)),
      sum_low_(static_cast<std::size_t>(num_columns)) {
  SPECTRACE_ASSERT(num_columns > 0 && most_vectors >= 0);
  if (are_held(num_columns, most_vectors))
    held_ = at::empty({most_vectors, num_columns}, at::kDouble);
  else
    triangle_ = std::make_unique<TallSingularValues>(num_columns);
}

void PointCloud::add(const Tensor& vectors) {
  SPECTRACE_ASSERT(vectors.dim() == 2 && vectors.size(1) == num_columns_ && vectors.scalar_type() == at::kDouble);
  SPECTRACE_ASSERT(num_vectors_ + vectors.size(0) <= most_vectors_);
  if (vectors.size(0) == 0) return;
  const std::int64_t first = std::max<std::int64_t>(0, num_vectors_ - 1);
  const Tensor rows = turned(vectors.contiguous());
  if (triangle_)
    triangle_->add_rows(rows);
  else
    held_.narrow(0, first, rows.size(0)).copy_(rows);
}

/// The next rows of the turned matrix: one less than vectors, if these are the first.
Tensor PointCloud::turned(const Tensor& vectors) {
  const std::int64_t count = vectors.size(0), without = num_vectors_ == 0 ? 1 : 0;
  Tensor rows = at::empty({count - without, num_columns_}, at::kDouble);
  double* row = rows.mutable_data_ptr<double>();
  const double* vector = vectors.const_data_ptr<double>();
  for (std::int64_t v = 0; v < count; ++v, vector += num_columns_) {
    const auto before = static_cast<double>(num_vectors_++);
    const double scale = std::sqrt(before / (before + 1));
    for (std::int64_t j = 0; j < num_columns_; ++j) {
      double &high = sum_high_[static_cast<std::size_t>(j)], &low = sum_low_[static_cast<std::size_t>(j)];
      if (before > 0) row[j] = scale * (vector[j] - high / before);
      const DoubleDouble sum = DoubleDouble{high, low} + DoubleDouble{vector[j], 0};
      high = sum.high;
      low = sum.low;
    }
    if (before > 0) row += num_columns_;
  }
  return rows;
}

/// sqrt(N) times the mean: what is left of X beside the turned rows.
Tensor PointCloud::mean_row() const {
  Tensor row = at::empty({1, num_columns_}, at::kDouble);
  double* const entries = row.mutable_data_ptr<double>();
  const double scale = 1 / std::sqrt(static_cast<double>(num_vectors_));
  std::transform(sum_high_.begin(), sum_high_.end(), entries, [=](double sum) { return sum * scale; });
  return row;
}

CloudSpectra PointCloud::finish() {
  CloudSpectra spectra;
  spectra.num_vectors = num_vectors_;
  if (num_vectors_ == 0) return spectra;
  const Tensor mean = mean_row();
  if (triangle_) {
    // Zeros change no singular value, and a triangle is of as many rows as columns at least.
    if (const std::int64_t lacking = num_columns_ - (num_vectors_ - 1); lacking > 0)
      triangle_->add_rows(at::zeros({lacking, num_columns_}, at::kDouble));
    const TriangleOfRows rows = triangle_->triangle();
    triangle_.reset();
    const auto values_of = [&](const Tensor& more) {
      TallSingularValues all = TallSingularValues::of_triangles(num_columns_);
      all.add_triangle(rows.entries, rows.facts);
      all.add_rows(more);
      return all.finish();
    };
    spectra.centered = values_of(mean.narrow(0, 0, 0));
    spectra.of_vectors = values_of(mean);
  } else {
    held_.select(0, num_vectors_ - 1).copy_(mean.select(0, 0));
    spectra.centered = singular_values(held_.narrow(0, 0, num_vectors_ - 1));
    spectra.of_vectors = singular_values(held_.narrow(0, 0, num_vectors_));
    held_.reset();
  }
  const auto keep = [&](SingularValues& values, std::int64_t count) {
    values.values.resize(static_cast<std::size_t>(std::min(count, num_columns_)));
  };
  keep(spectra.of_vectors, num_vectors_);
  keep(spectra.centered, num_vectors_ - 1);
  spectra.frobenius_norm = frobenius_norm(spectra.of_vectors.values);
  const double of_turning = kTurningError * kUnitRoundoff * spectra.frobenius_norm;
  spectra.of_vectors.error_bound += of_turning;
  spectra.centered.error_bound += of_turning;
  return spectra;
}

std::int64_t point_cloud_bytes(std::int64_t num_columns, std::int64_t most_vectors) {
  if (are_held(num_columns, most_vectors))
    return 8 * most_vectors * num_columns + singular_values_bytes(most_vectors, num_columns);
  const std::int64_t packed = 4 * num_columns * (num_columns + 1);
  return std::max(triangle_bytes(most_vectors, num_columns), packed + join_bytes(num_columns));
}

double point_cloud_flops(std::int64_t num_columns, std::int64_t num_vectors) {
  if (are_held(num_columns, num_vectors)) return 2 * singular_values_flops(num_vectors, num_columns);
  return triangle_flops(num_vectors, num_columns) + 2 * join_flops(1, num_columns);
}

EigenvalueDecay eigenvalue_decay(std::span<const double> eigenvalues) {
  constexpr std::size_t kFirstRank = 12, kLastRank = 100, kFewest = 10;
  const std::size_t last = std::min(kLastRank, eigenvalues.size());
  if (last + 1 < kFirstRank + kFewest) return {kNaN, kNaN};
  struct Point {
    double weight, x, y;
  };
  std::vector<Point> points;
  for (std::size_t rank = kFirstRank; rank <= last; ++rank)
    points.push_back(
        {1 / static_cast<double>(rank), std::log(static_cast<double>(rank)), std::log(eigenvalues[rank - 1])});
  double weights = 0, mean_x = 0, mean_y = 0, plain_mean = 0;
  for (const Point& point : points) {
    weights += point.weight;
    mean_x += point.weight * point.x;
    mean_y += point.weight * point.y;
    plain_mean += point.y;
  }
  mean_x /= weights;
  mean_y /= weights;
  plain_mean /= static_cast<double>(points.size());
  double covariance = 0, variance = 0;
  for (const Point& point : points) {
    covariance += point.weight * (point.x - mean_x) * (point.y - mean_y);
    variance += point.weight * (point.x - mean_x) * (point.x - mean_x);
  }
  const double slope = covariance / variance;
  double residual = 0, total = 0;
  for (const Point& point : points) {
    const double off = point.y - (mean_y + slope * (point.x - mean_x));
    residual += off * off;
    total += (point.y - plain_mean) * (point.y - plain_mean);
  }
  return {-slope, 1 - residual / total};
}

}  // namespace spectrace
