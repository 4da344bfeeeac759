#include "spectrace/results/statistics.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <vector>

namespace spectrace {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

/// Value of a prompt and slot: magnitudes far apart, signs mixed, one NaN in slot 2.
double value_of(std::int64_t prompt, std::int64_t slot) {
  if (slot == 2 && prompt == 3) return kNaN;
  return std::ldexp(static_cast<double>((prompt * 7919 + slot * 104729) % 1009) - 500.0,
                    static_cast<int>(prompt % 5) * 12 - 20);
}

QuantityStatistics sums_of(const std::vector<std::vector<std::int64_t>>& parts, std::int64_t num_slots) {
  StatisticsSums sums(num_slots);
  for (const auto& prompts : parts) {
    Array array;
    array.shape = {static_cast<std::int64_t>(prompts.size()), num_slots};
    for (const std::int64_t p : prompts)
      for (std::int64_t s = 0; s < num_slots; ++s) array.values.push_back(value_of(p, s));
    sums.add(array);
  }
  return sums.finish(2);
}

TEST(StatisticsSums, same_bits_however_prompts_are_cut_and_ordered) {
  const std::int64_t num_slots = 1027;  // more than a task takes
  std::vector<std::int64_t> all(37);
  std::iota(all.begin(), all.end(), 0);
  const auto expected = sums_of({all}, num_slots);
  std::vector<std::vector<std::int64_t>> backwards;
  for (const std::int64_t p : all) backwards.insert(backwards.begin(), {p});
  std::vector<std::vector<std::int64_t>> dealt(5);
  for (const std::int64_t p : all) dealt[static_cast<std::size_t>(p * p % 5)].push_back(p);
  for (const auto& parts : {backwards, dealt}) {
    const auto found = sums_of(parts, num_slots);
    ASSERT_EQ(found.values.size(), expected.values.size());
    EXPECT_EQ(std::memcmp(found.values.data(), expected.values.data(), found.values.size() * sizeof(double)), 0);
  }
}

TEST(StatisticsSums, values_against_definitions) {
  const std::int64_t num_prompts = 11, num_slots = 3;
  std::vector<std::int64_t> all(num_prompts);
  std::iota(all.begin(), all.end(), 0);
  const auto found = sums_of({all}, num_slots);
  for (std::int64_t s = 0; s < num_slots; ++s) {
    long double sum = 0, squares = 0, lowest = INFINITY, highest = -INFINITY;
    int count = 0;
    for (std::int64_t p = 0; p < num_prompts; ++p) {
      const long double x = value_of(p, s);
      if (std::isnan(x)) continue;
      ++count;
      sum += x;
      lowest = std::min(lowest, x);
      highest = std::max(highest, x);
    }
    const long double mean = sum / count;
    for (std::int64_t p = 0; p < num_prompts; ++p)
      if (!std::isnan(value_of(p, s))) squares += (value_of(p, s) - mean) * (value_of(p, s) - mean);
    const auto at = [&](int statistic) { return found.values[static_cast<std::size_t>(statistic * num_slots + s)]; };
    EXPECT_EQ(at(0), count);
    EXPECT_EQ(at(1), num_prompts - count + 2);  // two prompts could not run
    EXPECT_NEAR(at(2), static_cast<double>(mean), 1e-15 * static_cast<double>(highest - lowest));
    EXPECT_NEAR(at(3), static_cast<double>(std::sqrt(squares / (count - 1))), 1e-14 * at(3));
    EXPECT_EQ(at(4), static_cast<double>(lowest));
    EXPECT_EQ(at(5), static_cast<double>(highest));
  }
}

}  // namespace
}  // namespace spectrace
