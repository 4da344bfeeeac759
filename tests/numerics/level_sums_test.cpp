#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "../../src/numerics/level_sums_kernel.hpp"
#include "../../src/numerics/vector_kinds.hpp"
#include "spectrace/numerics/thermodynamics.hpp"
#include "support/unit_roundoff.hpp"

namespace spectrace {
namespace {

/// Upper ends of the table's intervals: 1/4, then sixteenths of the octaves up to 1024.
std::vector<double> ends() {
  std::vector<double> all = {kFirstLevelEnd};
  for (double octave = kFirstLevelEnd; octave < FactorLevels::kTableEnd; octave *= 2)
    for (int i = 1; i <= 16; ++i) all.push_back(octave * (1 + i / 16.0));
  return all;
}

TEST(LevelSums, are_the_polynomials_of_their_intervals_with_every_kind_of_vectors) {
  std::mt19937 random(5);
  std::uniform_real_distribution<double> uniform(0.1, 1.0);
  const std::vector<double> end_of = ends();
  std::vector<double> table(end_of.size() * kLevelTerms);
  for (double& x : table) x = uniform(random);
  // Both ends of intervals, what lies between, and next to them.
  std::vector<double> y = {0.0, 1e-300, 0.1};
  for (const double end : end_of)
    for (const double one : {std::nextafter(end, 0.0), end, end * 1.01})
      if (one < FactorLevels::kTableEnd) y.push_back(one);
  std::shuffle(y.begin(), y.end(), random);
  y.resize((y.size() + kLevelsTogether - 1) / kLevelsTogether * kLevelsTogether, 0.0);
  for (const VectorKind kind : vector_kinds()) {
    SCOPED_TRACE(name(kind));
    const LevelSumsKernel kernel = kind == VectorKind::baseline ? level_sums_baseline
                                   : kind == VectorKind::avx2   ? level_sums_avx2
                                                                : level_sums_avx512;
    std::vector<double> found(3 * y.size());
    kernel(table.data(), y.data(), static_cast<std::int64_t>(y.size()), found.data());
    for (std::size_t i = 0; i < y.size(); ++i) {
      const auto interval = static_cast<std::size_t>(std::upper_bound(end_of.begin(), end_of.end(), y[i]) -
                                                     end_of.begin());  // [previous end, end)
      const long double t = static_cast<long double>(end_of[interval]) - y[i];
      long double value = 0, slope = 0, curvature = 0;
      for (std::int64_t k = kLevelTerms; k-- > 0;) {
        const long double c = table[interval * kLevelTerms + static_cast<std::size_t>(k)];
        const auto n = static_cast<long double>(k);
        value += c * std::pow(t, n);
        if (k > 0) slope += n * c * std::pow(t, n - 1);
        if (k > 1) curvature += n * (n - 1) * c * std::pow(t, n - 2);
      }
      // All terms are positive.
      const double u = 4 * kLevelTerms * kUnitRoundoff;
      EXPECT_NEAR(static_cast<double>(value), found[i], u * static_cast<double>(value)) << y[i];
      EXPECT_NEAR(static_cast<double>(slope), found[y.size() + i], u * static_cast<double>(slope)) << y[i];
      EXPECT_NEAR(static_cast<double>(curvature), found[2 * y.size() + i], u * static_cast<double>(curvature)) << y[i];
    }
  }
}

}  // namespace
}  // namespace spectrace
