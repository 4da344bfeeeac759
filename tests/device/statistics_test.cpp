// Statistics of what lies on a device equal those of the host, within the rounding of sums in another order.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "guarded_device.hpp"
#include "spectrace/core/parallel.hpp"
#include "spectrace/numerics/attention_patterns.hpp"
#include "spectrace/numerics/attention_statistics.hpp"
#include "spectrace/numerics/graph_laplacian.hpp"
#include "spectrace/numerics/spectral_summary.hpp"

namespace spectrace {
namespace {

using testing::guarded_device;

constexpr double kEps = std::numeric_limits<double>::epsilon();

/// A sum of so many terms of one sign, each within a few roundings, in whatever order.
double sum_tolerance(std::int64_t count) { return static_cast<double>(count + 8) * kEps; }

/// Causal attention, each head of another sharpness; row 0 of a head is one-hot, and some entries vanish.
Tensor made_attention(std::int64_t heads, std::int64_t n, at::ScalarType type) {
  const Tensor places = at::arange(heads * n * n, at::kDouble).view({heads, n, n});
  const Tensor sharpness = at::pow(4.0, at::arange(heads, at::kDouble)).view({heads, 1, 1});
  const Tensor scores = (places * 0.7).sin() * sharpness;
  const Tensor hidden = at::ones({n, n}, at::kBool).triu(1);
  return at::softmax(scores.masked_fill(hidden, -std::numeric_limits<double>::infinity()), -1).to(type);
}

class DeviceStatistics : public ::testing::TestWithParam<at::ScalarType> {};

TEST_P(DeviceStatistics, attention_equals_the_hosts) {
  for (const std::int64_t n : {1, 2, 33, 100}) {
    const Tensor a = made_attention(5, n, GetParam());
    const auto expected = attention_statistics_of_heads(a);
    const auto found = attention_statistics_of_heads(guarded_device().bring(a));
    ASSERT_EQ(found.size(), 5u);
    for (std::size_t h = 0; h < 5; ++h) {
      const double tolerance = sum_tolerance(n * n);
      EXPECT_NEAR(found[h].row_entropy, expected[h].row_entropy, tolerance * expected[h].row_entropy) << n << " " << h;
      EXPECT_EQ(found[h].sparsity, expected[h].sparsity) << n << " " << h;
      // ln S of a sum of relative error t is off by t, and the quotient of two such sums by 2 t of itself.
      const double of_flat = n == 1 ? 0 : tolerance * (1 + 2 * std::log(static_cast<double>(n * n)));
      EXPECT_NEAR(found[h].flat_entropy, expected[h].flat_entropy, of_flat) << n << " " << h;
    }
  }
}

TEST_P(DeviceStatistics, thresholds_are_compared_in_the_type_of_the_entries) {
  // A uniform row of 100: 1/100 in float32 lies below the float64 number 0.01.
  const Tensor a = at::full({1, 100, 100}, 0.01, at::TensorOptions(GetParam()));
  EXPECT_EQ(attention_statistics_of_heads(guarded_device().bring(a))[0].sparsity, 0);
  EXPECT_EQ(attention_statistics_of_heads(a)[0].sparsity, 0);
}

TEST_P(DeviceStatistics, what_is_not_finite_is_nan_in_its_head_alone) {
  for (const double bad : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    const Tensor a = made_attention(3, 7, GetParam());
    a[1][3][2] = bad;
    const auto found = attention_statistics_of_heads(guarded_device().bring(a));
    EXPECT_TRUE(std::isnan(found[1].row_entropy) && std::isnan(found[1].sparsity) && std::isnan(found[1].flat_entropy));
    EXPECT_TRUE(std::isfinite(found[0].row_entropy) && std::isfinite(found[2].row_entropy));
  }
}

TEST_P(DeviceStatistics, row_norms_equal_the_hosts) {
  Tensor w = (at::arange(7 * 300, at::kDouble).view({7, 300}) * 0.37).sin().to(GetParam());
  w[2] *= 1e30;
  w[3].zero_();
  const auto expected = row_norms(w), found = row_norms(guarded_device().bring(w));
  ASSERT_EQ(found.size(), expected.size());
  for (std::size_t i = 0; i < found.size(); ++i)
    EXPECT_NEAR(found[i], expected[i], sum_tolerance(300) * expected[i]) << i;
}

TEST_P(DeviceStatistics, graph_spectra_have_the_hosts_bits_with_any_number_of_threads) {
  // 400 tokens: some heads at a time; 40: all at once.
  for (const std::int64_t n : {40, 400}) {
    const Tensor a = made_attention(9, n, GetParam());
    const auto expected = graph_spectra(a);
    for (const int threads : {1, 3}) {
      set_compute_threads(threads);
      const auto found = graph_spectra(guarded_device().bring(a));
      ASSERT_EQ(found.size(), expected.size());
      for (std::size_t h = 0; h < found.size(); ++h) {
        EXPECT_EQ(found[h].eigenvalues, expected[h].eigenvalues);
        EXPECT_EQ(found[h].off_diagonal_sum, expected[h].off_diagonal_sum);
      }
    }
    set_compute_threads(1);
  }
}

TEST_P(DeviceStatistics, patterns_have_the_hosts_bits_with_any_number_of_threads) {
  // 1500 tokens: as many heads at a time as there are threads; 40: all at once.
  for (const std::int64_t n : {40, 1500}) {
    const Tensor a = made_attention(5, n, GetParam());
    std::vector<std::int64_t> ids;
    for (std::int64_t i = 0; i < n; ++i) ids.push_back(i * i % 23);
    const EarlierTokens tokens(ids);
    const auto expected = attention_patterns(a, tokens);
    for (const int threads : {1, 3}) {
      set_compute_threads(threads);
      const auto found = attention_patterns(guarded_device().bring(a), tokens);
      ASSERT_EQ(found.size(), expected.size());
      for (std::size_t h = 0; h < found.size(); ++h) {
        EXPECT_EQ(found[h].mean_distance, expected[h].mean_distance);
        EXPECT_EQ(found[h].induction_score, expected[h].induction_score);
      }
    }
    set_compute_threads(1);
  }
}

INSTANTIATE_TEST_SUITE_P(Types, DeviceStatistics, ::testing::Values(at::kFloat, at::kDouble),
                         [](const auto& test) { return std::string(c10::toString(test.param)); });

TEST(DeviceStatisticsRange, squares_that_overflow_are_scaled) {
  const Tensor w = at::full({2, 3}, 1e300, at::kDouble);
  w[1] *= 1e-300;
  const auto norms = row_norms(guarded_device().bring(w));
  EXPECT_NEAR(norms[0], std::sqrt(3.0) * 1e300, 1e300 * sum_tolerance(3) * 2);
  EXPECT_TRUE(std::isinf(row_norms(guarded_device().bring(at::full({1, 2}, HUGE_VAL, at::kDouble)))[0]));
}

}  // namespace
}  // namespace spectrace
