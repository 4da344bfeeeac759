#include "spectrace/numerics/graph_laplacian.hpp"

#include <gtest/gtest.h>

#include <numbers>

#include "numerics/golden.hpp"
#include "numerics/peak_memory.hpp"
#include "spectrace/core/parallel.hpp"
#include "support/unit_roundoff.hpp"

namespace spectrace {
namespace {

void expect_spectrum(const std::vector<double>& expected, const GraphSpectrum& actual) {
  ASSERT_EQ(expected.size(), actual.eigenvalues.size());
  const double tolerance = 16 * static_cast<double>(expected.size()) * kUnitRoundoff * std::max(1.0, expected.back());
  for (std::size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(expected[i], actual.eigenvalues[i], tolerance);
}

Tensor dense_laplacian(const Tensor& a) {
  const Tensor w = ((a + a.t()).to(at::kDouble) * 0.5).fill_diagonal_(0);
  return at::diag(w.sum(1)) - w;
}

TEST(GraphSpectra, agree_with_numpy) {
  golden("attention.json").for_each([](const JsonNode& node) {
    SCOPED_TRACE(node.at("name").as_string());
    const std::int64_t n = node.at("n").as_int();
    const Tensor a = at::tensor(golden_numbers(node.at("entries")), at::kDouble).reshape({1, n, n});
    const std::vector<double> expected = golden_numbers(node.at("graph_eigenvalues"));
    const double sum = node.at("off_diagonal_sum").as_double();
    for (const Tensor& view : {a, a.mT().contiguous().mT(), a.mT()}) {  // symmetric weights: A^T gives the same graph
      const auto spectra = graph_spectra(view);
      expect_spectrum(expected, spectra.at(0));
      EXPECT_NEAR(sum, spectra[0].off_diagonal_sum, static_cast<double>(n) * kUnitRoundoff * std::max(1.0, sum));
    }
  });
}

TEST(GraphSpectra, of_a_ring_are_known) {
  // a_{i, i+1} = 1: w = 1/2 to both neighbours, mu_k = 1 - cos(2 pi k / n).
  const std::int64_t n = 11;
  const Tensor ring = at::eye(n, at::kFloat).roll(1, 1).unsqueeze(0);
  std::vector<double> expected;
  for (std::int64_t k = 0; k < n; ++k)
    expected.push_back(1.0 - std::cos(2.0 * std::numbers::pi * static_cast<double>(k) / static_cast<double>(n)));
  std::sort(expected.begin(), expected.end());
  expect_spectrum(expected, graph_spectra(ring).at(0));
}

TEST(GraphSpectra, heads_do_not_mix_and_nan_stays_in_its_head) {
  const std::int64_t heads = 5, n = 9;
  Tensor a = at::arange(heads * n * n, at::kDouble).mul(0.37).sin().abs().reshape({heads, n, n});
  const auto clean = graph_spectra(a);
  a[2][4][3] = std::numeric_limits<double>::quiet_NaN();
  a[3][1][2] = HUGE_VAL;
  const auto spectra = graph_spectra(a);
  ASSERT_EQ(5u, spectra.size());
  for (std::size_t head = 0; head < 5; ++head) {
    const GraphSpectrum alone = graph_spectra(a.narrow(0, static_cast<std::int64_t>(head), 1)).at(0);
    if (head == 2 || head == 3) {
      EXPECT_FALSE(std::isfinite(spectra[head].off_diagonal_sum));
      for (const double mu : spectra[head].eigenvalues) EXPECT_TRUE(std::isnan(mu));
    } else {
      EXPECT_EQ(clean[head].eigenvalues, spectra[head].eigenvalues);
      EXPECT_EQ(clean[head].eigenvalues, alone.eigenvalues);
      EXPECT_EQ(clean[head].off_diagonal_sum, spectra[head].off_diagonal_sum);
    }
  }
}

TEST(GraphSpectra, of_many_heads) {
  // More than one batch. Star graphs of weight c have eigenvalues 0, c (n - 2 times), c n.
  const std::int64_t heads = 70, n = 128;
  Tensor a = at::zeros({heads, n, n}, at::kFloat);
  a.select(2, 0).copy_(2.0 * at::arange(1, heads + 1, at::kFloat).unsqueeze(1));
  const auto spectra = graph_spectra(a);
  for (std::size_t head = 0; head < static_cast<std::size_t>(heads); ++head) {
    const auto c = static_cast<double>(head + 1);
    std::vector<double> expected(static_cast<std::size_t>(n), c);
    expected.front() = 0.0;
    expected.back() = c * static_cast<double>(n);
    expect_spectrum(expected, spectra[head]);
    EXPECT_EQ(2.0 * c * static_cast<double>(n - 1), spectra[head].off_diagonal_sum);
  }
}

TEST(GraphSpectra, of_heads_that_come_one_after_the_other_have_the_same_bits) {
  const Tensor a = at::softmax((at::arange(37 * 20 * 20, at::kFloat) * 0.7f).sin().mul(30).reshape({37, 20, 20}), 2);
  const auto expected = graph_spectra(a);
  GraphSpectra some_at_a_time;
  for (int turn = 0; turn < 2; ++turn) {  // what was taken is gone
    for (const auto& [first, count] : std::vector<std::pair<std::int64_t, std::int64_t>>{{0, 2}, {2, 1}, {3, 34}})
      some_at_a_time.add(a.narrow(0, first, count));
    const auto found = some_at_a_time.take();
    ASSERT_EQ(37u, found.size());
    for (std::size_t head = 0; head < found.size(); ++head) {
      EXPECT_EQ(expected[head].eigenvalues, found[head].eigenvalues) << head;
      EXPECT_EQ(expected[head].off_diagonal_sum, found[head].off_diagonal_sum) << head;
    }
  }
}

// From 1024 tokens on by another way.
TEST(GraphSpectra, of_long_rings_are_known) {
  for (const std::int64_t n : {1023, 1024, 1025, 1043}) {
    const Tensor ring = at::eye(n, at::kFloat).roll(1, 1).unsqueeze(0);
    std::vector<double> expected;
    for (std::int64_t k = 0; k < n; ++k)
      expected.push_back(1.0 - std::cos(2.0 * std::numbers::pi * static_cast<double>(k) / static_cast<double>(n)));
    std::sort(expected.begin(), expected.end());
    expect_spectrum(expected, graph_spectra(ring).at(0));
  }
}

TEST(GraphSpectra, of_long_prompts_have_the_same_bits_for_any_threads_and_company) {
  const std::int64_t heads = 3, n = 1030;
  const Tensor scores = (at::arange(heads * n * n, at::kFloat) * 0.7f).sin().mul(30).reshape({heads, n, n});
  Tensor a = at::softmax(scores.masked_fill(at::ones({n, n}, at::kBool).triu(1), -HUGE_VAL), 2);
  a[1][700][5] = std::numeric_limits<float>::quiet_NaN();
  set_compute_threads(1);
  const auto expected = graph_spectra(a);
  EXPECT_TRUE(std::isnan(expected[1].eigenvalues[0]) && std::isnan(expected[1].eigenvalues[n - 1]));
  const double largest = at::linalg_eigvalsh(dense_laplacian(a[2])).max().item<double>();
  EXPECT_NEAR(largest, expected[2].eigenvalues.back(), static_cast<double>(n) * kUnitRoundoff * largest);
  for (const int threads : {2, 3}) {
    set_compute_threads(threads);
    const auto found = graph_spectra(a);
    for (const std::size_t head : {std::size_t{0}, std::size_t{2}}) {
      EXPECT_EQ(expected[head].eigenvalues, found[head].eigenvalues) << threads;
      EXPECT_EQ(expected[head].eigenvalues,
                graph_spectra(a.narrow(0, static_cast<std::int64_t>(head), 1))[0].eigenvalues);
      EXPECT_EQ(expected[head].off_diagonal_sum, found[head].off_diagonal_sum);
    }
  }
  set_compute_threads(1);
}

TEST(GraphSpectra, take_no_more_memory_than_was_said) {
  for (const std::int64_t n : {100, 1000, 1030, 1500}) {
    const Tensor a = at::ones({1, n, n}, at::kFloat);
    EXPECT_LE(peak_tensor_bytes([&] { graph_spectra(a); }), graph_spectra_bytes(1, n, 1)) << n;
  }
}

TEST(GraphLaplacian, contraction_ratio_is_the_mean_root_over_the_lower_triangle) {
  const Tensor a = at::tensor({1.0, 0.0, 0.0, 0.25, 0.75, 0.0, 0.5, 0.0, 0.5}, at::kDouble).reshape({3, 3});
  EXPECT_DOUBLE_EQ((1 + 0.5 + std::sqrt(0.75) + 2 * std::sqrt(0.5)) / 6, contraction_ratio(a));
  EXPECT_EQ(1.0, contraction_ratio(at::ones({1, 1}, at::kDouble)));
  EXPECT_TRUE(std::isnan(contraction_ratio(at::full({2, 2}, std::nan(""), at::kDouble))));
}

}  // namespace
}  // namespace spectrace
