#include "spectrace/numerics/sheaf_spectrum.hpp"

#include <gtest/gtest.h>

#include <map>
#include <random>

#include "numerics/golden.hpp"
#include "spectrace/numerics/graph_laplacian.hpp"
#include "spectrace/numerics/singular_values.hpp"
#include "support/unit_roundoff.hpp"

namespace spectrace {
namespace {

std::map<std::string, Tensor> attention_matrices() {
  std::map<std::string, Tensor> matrices;
  golden("attention.json").for_each([&](const JsonNode& node) {
    const std::int64_t n = node.at("n").as_int();
    matrices[node.at("name").as_string()] =
        at::tensor(golden_numbers(node.at("entries")), at::kDouble).reshape({1, n, n});
  });
  return matrices;
}

/// The golden rows are [ln Z, U, C, S] of levels that are each within `error` of those of the result: weights change by
/// factors of at most e^(2 beta error), and means by as much of what they are means of.
void expect_thermodynamics(const JsonNode& rows, const Thermodynamics& result, const std::vector<double>& beta,
                           double error) {
  std::size_t i = 0;
  rows.for_each([&](const JsonNode& row) {
    SCOPED_TRACE("beta " + std::to_string(beta[i]));
    const std::vector<double> expected = golden_numbers(row);
    const double log_z = expected[0], energy = expected[1], capacity = expected[2], entropy = expected[3];
    const double x = beta[i] * error, spread = std::sqrt(capacity), u = 32 * kUnitRoundoff;
    EXPECT_NEAR(log_z, result.log_partition[i], x + u * (1 + std::abs(log_z)));
    EXPECT_NEAR(energy, result.internal_energy[i], error * (1 + 2 * spread) + u * energy);
    EXPECT_NEAR(capacity, result.heat_capacity[i], 2 * x * (capacity + spread) + u * (1 + capacity));
    EXPECT_NEAR(entropy, result.entropy[i], 2 * x * spread + u * (1 + entropy));
    ++i;
  });
  if (i > 0)
    EXPECT_EQ(beta.size(), i);
  else
    for (const double nothing : result.entropy) EXPECT_TRUE(std::isnan(nothing));
}

TEST(SheafSpectrum, agrees_with_the_full_matrix) {
  const auto attention = attention_matrices();
  golden("sheaf.json").for_each([&](const JsonNode& node) {
    SCOPED_TRACE(node.at("attention").as_string() + ", " + node.at("value").as_string());
    const std::int64_t d = node.at("d").as_int(), hidden_size = node.at("hidden_size").as_int();
    const Tensor w_v = at::tensor(golden_numbers(node.at("w_v")), at::kDouble).reshape({d, hidden_size});
    const GraphSpectrum graph = graph_spectra(attention.at(node.at("attention").as_string())).at(0);
    const std::vector<double> sigma = singular_values(w_v).values, beta = golden_numbers(node.at("beta"));
    const SheafSummary result = summarize_sheaf(graph.eigenvalues, ValueLevels(sigma, hidden_size), beta);

    const double largest = node.at("lambda_max").as_double();
    const auto size = static_cast<double>(graph.eigenvalues.size()) * static_cast<double>(hidden_size);
    const double tolerance = 16 * size * kUnitRoundoff * largest;  // of eigvalsh of the full matrix
    EXPECT_NEAR(largest, result.lambda_max, tolerance);
    EXPECT_EQ(node.at("nullity").as_double(), result.nullity);
    const double gap = golden_number(node.at("spectral_gap"));
    if (std::isnan(gap))
      EXPECT_TRUE(std::isnan(result.spectral_gap));
    else
      EXPECT_NEAR(gap, result.spectral_gap, tolerance);
    const double fiedler = golden_number(node.at("graph_lambda_2"));
    if (std::isnan(fiedler))
      EXPECT_TRUE(std::isnan(result.graph_lambda_2));
    else
      EXPECT_NEAR(fiedler, result.graph_lambda_2, 16 * size * kUnitRoundoff);
    EXPECT_NEAR(node.at("spectral_entropy").as_double(), result.spectral_entropy, 64 * size * kUnitRoundoff);
    EXPECT_NEAR(node.at("trace").as_double(), graph.off_diagonal_sum * w_v.square().sum().item<double>(),
                size * tolerance);
    const std::vector<double> expected = golden_numbers(node.at("log_partition"));
    ASSERT_EQ(expected.size(), result.log_partition.size());
    for (std::size_t i = 0; i < beta.size(); ++i) {
      // d ln Z <= beta max |d lambda|, where terms with beta lambda > 40 no longer count.
      const double relative = std::min(beta[i] * tolerance, 40 * tolerance / std::max(largest, 1e-300));
      EXPECT_NEAR(expected[i], result.log_partition[i], 16 * kUnitRoundoff * (1 + expected[i]) + 40 * relative);
    }
    expect_thermodynamics(node.at("non_zero"), result.non_zero, beta, tolerance);
  });
}

/// Every eigenvalue one by one in extended precision.
long double plain_log_partition(const std::vector<double>& mu, const std::vector<double>& s, double num_zeros,
                                double beta) {
  long double smallest = num_zeros > 0 ? 0.0L : HUGE_VALL;
  for (const double m : mu)
    for (const double x : s) smallest = std::min(smallest, static_cast<long double>(m) * x);
  long double sum = num_zeros;
  for (const double m : mu)
    for (const double x : s) sum += std::exp(-beta * (static_cast<long double>(m) * x - smallest));
  return std::log(sum) - beta * smallest;
}

TEST(SheafSpectrum, log_partition_at_every_beta) {
  // All three ways to sum (series, exp, left out) and their borders; with and without zeros among the eigenvalues.
  std::mt19937 random(3);
  std::uniform_real_distribution<double> uniform(0.01, 3.0);
  for (const std::size_t num_zero_mu : {0, 1, 3}) {
    std::vector<double> mu(num_zero_mu, 0.0), positive_mu, sigma, squares;
    for (int i = 0; i < 17; ++i) positive_mu.push_back(uniform(random));
    for (int i = 0; i < 23; ++i) sigma.push_back(uniform(random));
    std::sort(positive_mu.begin(), positive_mu.end());
    mu.insert(mu.end(), positive_mu.begin(), positive_mu.end());
    for (const double x : sigma) squares.push_back(x * x);
    for (const std::int64_t hidden_size : {23, 40}) {
      std::vector<double> beta;
      for (int i = -24; i <= 24; ++i) beta.push_back(std::pow(10.0, i / 4.0));
      const SheafSummary result = summarize_sheaf(mu, ValueLevels(sigma, hidden_size), beta);
      const double num_zeros = static_cast<double>(mu.size()) * static_cast<double>(hidden_size) - 17.0 * 23.0;
      EXPECT_EQ(num_zeros, result.nullity);
      for (std::size_t i = 0; i < beta.size(); ++i) {
        const auto expected = static_cast<double>(plain_log_partition(positive_mu, squares, num_zeros, beta[i]));
        // The sum is good to a few roundings; so is ln Z, and beta lambda_min where no eigenvalue is zero.
        const double tolerance = 16 * kUnitRoundoff * (1 + std::abs(expected) + beta[i] * (num_zeros > 0 ? 0 : 9e-3));
        EXPECT_NEAR(expected, result.log_partition[i], tolerance) << "beta " << beta[i];
      }
    }
  }
}

TEST(SheafSpectrum, what_is_below_the_threshold_is_zero) {
  const std::int64_t hidden_size = 100;
  const double threshold = 100 * 0x1p-52;
  const std::vector<double> beta{1e20};
  const std::vector<double> mu{-1e-17, 2 * threshold * (1 - 1e-9), 2 * threshold * (1 + 1e-9), 2.0};
  const std::vector<double> sigma{3.0, 3.0 * std::sqrt(threshold) * (1 - 1e-9), 0.0};
  const SheafSummary result = summarize_sheaf(mu, ValueLevels(sigma, hidden_size), beta);
  EXPECT_EQ(4 * 100 - 2 * 1, result.nullity);
  EXPECT_DOUBLE_EQ(18.0, result.lambda_max);
  EXPECT_DOUBLE_EQ(mu[2] * 9.0, result.spectral_gap);
  EXPECT_DOUBLE_EQ(std::log(398.0), result.log_partition[0]);
  const double p = mu[2] / (mu[2] + mu[3]);
  EXPECT_NEAR(-p * std::log(p), result.spectral_entropy, 2 * p);
}

TEST(SheafSpectrum, of_nothing_but_zeros) {
  const std::vector<double> beta{0.5, 2.0};
  for (const auto& [mu, sigma] : std::vector<std::array<std::vector<double>, 2>>{
           {{{0.0}, {1.0, 2.0}}}, {{{-1e-18, 0.0, 0.0}, {1.0}}}, {{{0.0, 1.0}, {}}}, {{{0.0, 1.0}, {0.0, 0.0}}}}) {
    const SheafSummary result = summarize_sheaf(mu, ValueLevels(sigma, 5), beta);
    EXPECT_EQ(5.0 * static_cast<double>(mu.size()), result.nullity);
    EXPECT_EQ(0.0, result.lambda_max);
    EXPECT_TRUE(std::isnan(result.spectral_gap));
    EXPECT_EQ(0.0, result.spectral_entropy);
    for (const double log_z : result.log_partition) EXPECT_DOUBLE_EQ(std::log(result.nullity), log_z);
  }
}

TEST(SheafSpectrum, thermodynamics_are_of_the_non_zero_eigenvalues) {
  // Four tokens in two parts: two zeros, so lambda_2 is exactly 0.
  const std::vector<double> beta{0.1, 3.0}, mu{-1e-17, 1e-17, 0.5, 2.0}, sigma{0.0, 1.0, 3.0};
  const SheafSummary result = summarize_sheaf(mu, ValueLevels(sigma, 5), beta);
  const Thermodynamics sheaf = thermodynamics(std::array{0.5, 2.0}, FactorLevels({1.0, 9.0}), beta),
                       graph = thermodynamics(std::array{0.5, 2.0}, FactorLevels({1.0}), beta);
  EXPECT_EQ(0.0, result.graph_lambda_2);
  EXPECT_EQ(sheaf.log_partition, result.non_zero.log_partition);
  EXPECT_EQ(sheaf.heat_capacity, result.non_zero.heat_capacity);
  EXPECT_EQ(graph.internal_energy, result.graph.internal_energy);
  EXPECT_EQ(graph.entropy, result.graph.entropy);
  for (std::size_t i = 0; i < beta.size(); ++i) {
    const double z = std::exp(-0.5 * beta[i]) + std::exp(-2 * beta[i]);
    EXPECT_NEAR(std::log(z), result.graph.log_partition[i], 8 * kUnitRoundoff * (1 + 0.5 * beta[i]));
  }
  // Heads whose W_V is zero still have a graph; a single token has none.
  const SheafSummary no_value = summarize_sheaf(mu, ValueLevels(std::vector{0.0, 0.0}, 5), beta);
  EXPECT_EQ(graph.entropy, no_value.graph.entropy);
  EXPECT_TRUE(std::isnan(no_value.non_zero.entropy[0]));
  const SheafSummary one_token = summarize_sheaf(std::vector{0.0}, ValueLevels(sigma, 5), beta);
  EXPECT_TRUE(std::isnan(one_token.graph_lambda_2) && std::isnan(one_token.graph.entropy[1]));
  EXPECT_EQ(0.25, summarize_sheaf(std::vector{0.0, 0.25, 0.5}, ValueLevels(sigma, 5), beta).graph_lambda_2);
}

TEST(SheafSpectrum, of_prompts_longer_than_the_hidden_size) {
  // A square that is zero for n tokens and was none for D.
  const std::int64_t hidden_size = 3, num_tokens = 1000;
  const double between = std::sqrt(100 * 0x1p-52);
  std::vector<double> mu(static_cast<std::size_t>(num_tokens), 0.5);
  mu.front() = 0.0;
  const std::vector<double> beta{2.0};
  const SheafSummary result = summarize_sheaf(mu, ValueLevels(std::vector{1.0, between, 0.9}, hidden_size), beta);
  EXPECT_EQ(3000 - 999 * 2, result.nullity);
  EXPECT_EQ(thermodynamics(std::span(mu).subspan(1), FactorLevels({0.9 * 0.9, 1.0}), beta).heat_capacity,
            result.non_zero.heat_capacity);
  const std::vector<double> few{0.0, 0.5};
  EXPECT_EQ(6 - 3, summarize_sheaf(few, ValueLevels(std::vector{1.0, between, 0.9}, hidden_size), beta).nullity);
}

TEST(SheafSpectrum, of_what_is_not_finite_is_nan) {
  const std::vector<double> good{0.0, 1.0}, bad{0.0, std::numeric_limits<double>::quiet_NaN()}, beta{1.0, 2.0};
  for (const SheafSummary& result :
       {summarize_sheaf(bad, ValueLevels(good, 5), beta), summarize_sheaf(good, ValueLevels(bad, 5), beta)}) {
    for (const double x : {result.lambda_max, result.spectral_gap, result.nullity, result.spectral_entropy,
                           result.graph_lambda_2, result.non_zero.heat_capacity.at(1), result.graph.entropy.at(1)})
      EXPECT_TRUE(std::isnan(x));
    ASSERT_EQ(2u, result.log_partition.size());
    EXPECT_TRUE(std::isnan(result.log_partition[0]) && std::isnan(result.log_partition[1]));
  }
}

}  // namespace
}  // namespace spectrace
