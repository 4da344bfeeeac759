#include "spectrace/numerics/point_cloud.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "gaussian.hpp"
#include "spectrace/numerics/numerical_error.hpp"

namespace spectrace {
namespace {

/// Vectors around a mean, along axes of different lengths.
Tensor vectors(std::int64_t count, std::int64_t width, double mean = 3) {
  const Tensor lengths = at::pow(at::arange(1, width + 1, at::kDouble), -1.0);
  return gaussian(count, width, 7).mul_(lengths).add_(at::cos(at::arange(width, at::kDouble)).mul_(mean));
}

CloudSpectra spectra_of(const Tensor& x, std::int64_t most, const std::vector<std::int64_t>& cuts = {}) {
  PointCloud cloud(x.size(1), most);
  std::int64_t first = 0;
  for (const std::int64_t count : cuts) {
    cloud.add(x.narrow(0, first, count));
    first += count;
  }
  cloud.add(x.narrow(0, first, x.size(0) - first));
  return cloud.finish();
}

void expect_values(const Tensor& expected, const SingularValues& actual, const std::string& what) {
  ASSERT_EQ(expected.numel(), static_cast<std::int64_t>(actual.values.size())) << what;
  const double of_oracle = 4e-16 * std::sqrt(static_cast<double>(expected.numel() + 1)) *
                           (expected.numel() == 0 ? 0 : expected[0].item<double>());
  for (std::int64_t i = 0; i < expected.numel(); ++i)
    EXPECT_NEAR(expected[i].item<double>(), actual.values[static_cast<std::size_t>(i)], actual.error_bound + of_oracle)
        << what << " " << i;
}

TEST(PointCloud, has_the_values_of_the_vectors_and_of_them_without_their_mean) {
  for (const auto& [count, width] :
       {std::pair{1, 5}, {2, 5}, {5, 5}, {6, 5}, {7, 5}, {8, 5}, {40, 5}, {12, 40}, {300, 40}})
    for (const double mean : {0.0, 3.0, 1e5}) {
      const Tensor x = vectors(count, width, mean);
      const CloudSpectra spectra = spectra_of(x, count);
      const std::string what = std::to_string(count) + " of " + std::to_string(width) + " at " + std::to_string(mean);
      EXPECT_EQ(count, spectra.num_vectors);
      expect_values(at::linalg_svdvals(x), spectra.of_vectors, what + " of vectors");
      const Tensor centered = at::linalg_svdvals(x - x.mean(0, /*keepdim=*/true));
      expect_values(centered.narrow(0, 0, std::min(count - 1, width)), spectra.centered, what + " centered");
      EXPECT_LT(spectra.of_vectors.error_bound, 1e-13 * spectra.of_vectors.values.front());
    }
}

TEST(PointCloud, does_not_know_how_its_vectors_are_cut) {
  for (const std::int64_t most : {30, 1000}) {
    const Tensor x = vectors(29, 24);
    const CloudSpectra at_once = spectra_of(x, most), in_pieces = spectra_of(x, most, {0, 1, 3, 1, 17});
    EXPECT_EQ(at_once.of_vectors.values, in_pieces.of_vectors.values);
    EXPECT_EQ(at_once.centered.values, in_pieces.centered.values);
  }
}

/// Prompts may fail: what was to be many vectors may be one or none.
TEST(PointCloud, takes_fewer_vectors_than_were_expected) {
  for (const std::int64_t count : {0, 1, 2, 9}) {
    const Tensor x = vectors(count, 9);
    const CloudSpectra few = spectra_of(x, count), many = spectra_of(x, 5000);
    EXPECT_EQ(count, many.num_vectors);
    ASSERT_EQ(few.of_vectors.values.size(), many.of_vectors.values.size());
    ASSERT_EQ(few.centered.values.size(), many.centered.values.size());
    for (std::size_t i = 0; i < few.of_vectors.values.size(); ++i)
      EXPECT_NEAR(few.of_vectors.values[i], many.of_vectors.values[i], 2 * many.of_vectors.error_bound);
    for (std::size_t i = 0; i < few.centered.values.size(); ++i)
      EXPECT_NEAR(few.centered.values[i], many.centered.values[i], 2 * many.centered.error_bound);
  }
}

TEST(PointCloud, of_one_point_over_and_over_is_nothing_without_its_mean) {
  const Tensor x = vectors(1, 6).expand({50, 6});
  for (const std::int64_t most : {50, 5000}) {
    const CloudSpectra spectra = spectra_of(x.contiguous(), most);
    EXPECT_NEAR(x.norm().item<double>(), spectra.of_vectors.values.front(), spectra.of_vectors.error_bound);
    EXPECT_LE(spectra.centered.values.front(), spectra.centered.error_bound);
  }
}

TEST(PointCloud, refuses_what_is_no_number) {
  PointCloud cloud(4, 100);
  EXPECT_THROW(cloud.add(at::full({3, 4}, INFINITY, at::kDouble)), NumericalError);
}

TEST(EigenvalueDecay, is_the_exponent_of_a_power_law) {
  std::vector<double> eigenvalues;
  for (int i = 1; i <= 200; ++i) eigenvalues.push_back(5 * std::pow(i, -1.3));
  EigenvalueDecay decay = eigenvalue_decay(eigenvalues);
  EXPECT_NEAR(1.3, decay.exponent, 1e-13);
  EXPECT_NEAR(1, decay.r_squared, 1e-13);
  // Ranks before the 12th and behind the 100th do not count, and the 12th and the 100th do.
  for (std::size_t i = 0; i < 11; ++i) eigenvalues[i] = 1e9;
  for (std::size_t i = 100; i < 200; ++i) eigenvalues[i] = 1e-9;
  EXPECT_EQ(decay.exponent, eigenvalue_decay(eigenvalues).exponent);
  for (const std::size_t end : {11, 99}) {
    std::vector<double> changed = eigenvalues;
    changed[end] *= 2;
    EXPECT_GT(std::abs(eigenvalue_decay(changed).exponent - decay.exponent), 1e-3);
  }
}

/// The same by the formula of the slope of a line, weighted.
TEST(EigenvalueDecay, weighs_ranks_by_their_inverse) {
  std::vector<double> eigenvalues;
  for (int i = 1; i <= 60; ++i) eigenvalues.push_back(std::exp(-0.1 * i + 0.3 * std::sin(i)));
  double w = 0, wx = 0, wy = 0, wxx = 0, wxy = 0;
  for (int i = 12; i <= 60; ++i) {
    const double weight = 1.0 / i, x = std::log(i), y = std::log(eigenvalues[static_cast<std::size_t>(i - 1)]);
    w += weight, wx += weight * x, wy += weight * y, wxx += weight * x * x, wxy += weight * x * y;
  }
  EXPECT_NEAR(-(w * wxy - wx * wy) / (w * wxx - wx * wx), eigenvalue_decay(eigenvalues).exponent, 1e-12);
}

TEST(EigenvalueDecay, needs_ten_ranks) {
  std::vector<double> eigenvalues;
  for (int i = 1; i <= 21; ++i) eigenvalues.push_back(1.0 / i);
  EXPECT_NEAR(1, eigenvalue_decay(eigenvalues).exponent, 1e-13);
  eigenvalues.pop_back();
  EXPECT_TRUE(std::isnan(eigenvalue_decay(eigenvalues).exponent));
  EXPECT_TRUE(std::isnan(eigenvalue_decay({}).r_squared));
}

}  // namespace
}  // namespace spectrace
