#include "spectrace/numerics/thermodynamics.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <random>

#include "support/unit_roundoff.hpp"

namespace spectrace {
namespace {

std::vector<double> beta_grid(double from, double to) {
  std::vector<double> beta;
  for (double one = from; one <= to; one *= std::sqrt(std::sqrt(10.0))) beta.push_back(one);
  return beta;
}

/// Every eigenvalue one by one in extended precision.
struct Plain {
  long double log_partition = 0, energy = 0, heat_capacity = 0, entropy = 0;
  long double mean_x = 0, second_x = 0;  // of x = beta (lambda - smallest)

  Plain(const std::vector<double>& mu, const std::vector<double>& s, double beta) {
    const long double smallest = static_cast<long double>(mu.front()) * s.front();
    const auto sum = [&](const std::function<long double(long double)>& of_x) {
      long double total = 0;
      for (const double m : mu)
        for (const double one : s) {
          const long double x = beta * (static_cast<long double>(m) * one - smallest);
          total += std::exp(-x) * of_x(x);
        }
      return total;
    };
    const long double z = sum([](long double) { return 1.0L; });
    mean_x = sum([](long double x) { return x; }) / z;
    second_x = sum([](long double x) { return x * x; }) / z;
    log_partition = std::log(z) - beta * smallest;
    energy = smallest + mean_x / beta;
    heat_capacity = sum([&](long double x) { return (x - mean_x) * (x - mean_x); }) / z;
    entropy = std::log(z) + mean_x;
  }
};

void expect_as_plain(const std::vector<double>& mu, const std::vector<double>& s, const std::vector<double>& beta) {
  const Thermodynamics result = thermodynamics(mu, FactorLevels(s), beta);
  ASSERT_EQ(beta.size(), result.log_partition.size());
  for (std::size_t i = 0; i < beta.size(); ++i) {
    SCOPED_TRACE("beta " + std::to_string(beta[i]));
    const Plain plain(mu, s, beta[i]);
    // docs/numerics.md: roundings of the sums' parts (a term's exponent is itself good to a few roundings, and a level
    // counts by x e^-x or less), and what is left out.
    const double u = 32 * kUnitRoundoff, left_out = 0x1p-56;
    const auto smallest_x = beta[i] * mu.front() * s.front();
    const auto as_double = [](long double x) { return static_cast<double>(x); };
    EXPECT_NEAR(as_double(plain.log_partition), result.log_partition[i],
                u * (1 + std::abs(as_double(plain.log_partition)) + smallest_x));
    EXPECT_NEAR(as_double(plain.energy), result.internal_energy[i], u * as_double(plain.energy) + left_out / beta[i]);
    EXPECT_NEAR(as_double(plain.heat_capacity), result.heat_capacity[i],
                u * as_double(plain.second_x + plain.mean_x) + 2 * left_out);
    EXPECT_NEAR(as_double(plain.entropy), result.entropy[i], u * (1 + as_double(plain.entropy)));
  }
}

TEST(Thermodynamics, of_random_spectra_at_every_beta) {
  // Series, exp, left out, and their borders.
  std::mt19937 random(3);
  std::uniform_real_distribution<double> uniform(0.01, 3.0);
  for (const std::size_t num_mu : {1, 2, 17, 40})
    for (const std::size_t num_s : {1, 2, 23}) {
      SCOPED_TRACE(std::to_string(num_mu) + " x " + std::to_string(num_s));
      std::vector<double> mu(num_mu), s(num_s);
      for (auto* values : {&mu, &s}) {
        for (double& x : *values) x = uniform(random);
        std::sort(values->begin(), values->end());
      }
      expect_as_plain(mu, s, beta_grid(1e-6, 1e6));
    }
}

TEST(Thermodynamics, of_wide_spectra) {
  // Ten decades in either factor: each beta has terms of every kind.
  std::vector<double> mu, s;
  for (int i = 0; i < 30; ++i) mu.push_back(std::pow(10.0, -7 + i / 3.0));
  for (int i = 0; i < 25; ++i) s.push_back(std::pow(10.0, -6 + i / 2.5));
  expect_as_plain(mu, s, beta_grid(1e-9, 1e12));
}

TEST(Thermodynamics, of_degenerate_spectra) {
  const std::vector<double> beta = beta_grid(1e-4, 1e4);
  const std::vector<double> mu(12, 0.7), s(9, 3.1);
  const Thermodynamics result = thermodynamics(mu, FactorLevels(s), beta);
  for (std::size_t i = 0; i < beta.size(); ++i) {
    EXPECT_EQ(0.0, result.heat_capacity[i]);
    EXPECT_EQ(0.7 * 3.1, result.internal_energy[i]);
    EXPECT_DOUBLE_EQ(std::log(108.0), result.entropy[i]);
    EXPECT_DOUBLE_EQ(std::log(108.0) - beta[i] * (0.7 * 3.1), result.log_partition[i]);
  }
  // One factor degenerate; a star graph's spectrum; nearly degenerate, where <l^2> - <l>^2 would lose every digit.
  expect_as_plain({0.2, 0.5, 0.9}, s, beta);
  expect_as_plain(mu, {0.2, 0.5, 0.9}, beta);
  std::vector<double> star(30, 0.5), close;
  star.push_back(15.5);
  for (int i = 0; i < 9; ++i) close.push_back(3.1 + 1e-9 * i * i);
  expect_as_plain(star, s, beta);
  const Thermodynamics narrow = thermodynamics(std::array{0.75}, FactorLevels(close), beta);
  for (std::size_t i = 0; i < beta.size(); ++i) {
    const Plain plain({0.75}, close, beta[i]);  // products with 0.75 are exact in extended precision
    // The differences of the given numbers are exact: C keeps all digits but a few.
    EXPECT_NEAR(1.0, narrow.heat_capacity[i] / static_cast<double>(plain.heat_capacity), 64 * kUnitRoundoff);
  }
}

TEST(Thermodynamics, of_an_outlier_far_below_the_rest) {
  // The worst case for C: a mean of x^2 that is as many times the variance as there are eigenvalues.
  std::vector<double> mu(500, 2.0);
  mu.front() = 1e-3;
  expect_as_plain(mu, {1.0}, beta_grid(1e-6, 1e3));
}

TEST(Thermodynamics, of_many_eigenvalues) {
  // More than the buffer holds at one beta.
  std::mt19937 random(5);
  std::exponential_distribution<double> spread(1.0);
  std::vector<double> mu(300), s(100);
  for (auto* values : {&mu, &s}) {
    for (double& x : *values) x = spread(random) + 1e-6;
    std::sort(values->begin(), values->end());
  }
  expect_as_plain(mu, s, {1e-3, 0.3, 2.0, 50.0});
}

TEST(Thermodynamics, of_one_eigenvalue) {
  const Thermodynamics result = thermodynamics(std::array{0.3}, FactorLevels({4.0}), std::array{1e-3, 2.0, 1e5});
  for (const std::size_t i : {0, 1, 2}) {
    EXPECT_EQ(0.0, result.heat_capacity[i]);
    EXPECT_EQ(0.0, result.entropy[i]);
    EXPECT_EQ(0.3 * 4.0, result.internal_energy[i]);
    EXPECT_EQ(-(std::array{1e-3, 2.0, 1e5})[i] * (0.3 * 4.0), result.log_partition[i]);
  }
}

TEST(Thermodynamics, of_nothing_is_nan) {
  const std::vector<double> none, one{1.0}, beta{0.5, 2.0};
  for (const Thermodynamics& result :
       {thermodynamics(none, FactorLevels(one), beta), thermodynamics(one, FactorLevels(none), beta)})
    for (const auto* values :
         {&result.log_partition, &result.internal_energy, &result.heat_capacity, &result.entropy}) {
      ASSERT_EQ(2u, values->size());
      EXPECT_TRUE(std::isnan(values->at(0)) && std::isnan(values->at(1)));
    }
}

TEST(Thermodynamics, of_a_beta_does_not_depend_on_the_others) {
  std::mt19937 random(9);
  std::uniform_real_distribution<double> uniform(0.01, 3.0);
  std::vector<double> mu(60), s(90);
  for (auto* values : {&mu, &s}) {
    for (double& x : *values) x = uniform(random);
    std::sort(values->begin(), values->end());
  }
  const std::vector<double> beta = beta_grid(1e-3, 1e3);
  const Thermodynamics all = thermodynamics(mu, FactorLevels(s), beta);
  for (std::size_t i = 0; i < beta.size(); ++i) {
    const Thermodynamics one = thermodynamics(mu, FactorLevels(s), std::array{beta[i]});
    EXPECT_EQ(one.log_partition[0], all.log_partition[i]);
    EXPECT_EQ(one.heat_capacity[0], all.heat_capacity[i]);
    EXPECT_EQ(one.entropy[0], all.entropy[i]);
  }
}

}  // namespace
}  // namespace spectrace
