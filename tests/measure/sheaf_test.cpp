#include <gtest/gtest.h>

#include <cmath>

#include "spectrace/core/error.hpp"
#include "spectrace/measure/catalogue.hpp"

namespace spectrace {
namespace {

/// As a job's section `sheaf` with this grid gives it.
std::vector<double> beta_grid(const Json& beta) {
  const Analysis& sheaf = *find_analysis("sheaf");
  const Json section = beta.is_null() ? Json::object() : Json{{"beta", beta}};
  const auto deciding = sheaf.deciding(sheaf.complete(JsonNode::of(section, "job", ErrorKind::usage)));
  EXPECT_EQ(deciding.size(), 1u);
  EXPECT_EQ(deciding.front().name, "beta grid");
  EXPECT_EQ(deciding.front().parameter, "beta");
  return deciding.front().value.get<std::vector<double>>();
}

TEST(Sheaf, ends_of_the_grid_are_exact_and_steps_even_in_the_logarithm) {
  const auto grid = beta_grid({{"from", 1e-3}, {"to", 1e3}, {"count", 25}});
  ASSERT_EQ(grid.size(), 25u);
  EXPECT_EQ(grid.front(), 1e-3);
  EXPECT_EQ(grid.back(), 1e3);
  for (std::size_t i = 1; i < grid.size(); ++i) EXPECT_NEAR(grid[i] / grid[i - 1], std::pow(10.0, 0.25), 1e-14);
  EXPECT_EQ(beta_grid({{"from", 2}, {"to", 2}, {"count", 1}}), std::vector<double>{2.0});
  EXPECT_EQ(beta_grid(nullptr), grid) << "of a job that says nothing";
}

TEST(Sheaf, a_grid_that_goes_nowhere_is_refused) {
  for (const Json& beta : {Json{{"from", 2}, {"to", 1}, {"count", 2}}, Json{{"from", 2}, {"to", 2}, {"count", 2}},
                           Json{{"from", 2}, {"to", 1}, {"count", 1}}})
    try {
      beta_grid(beta);
      ADD_FAILURE() << "taken: " << beta;
    } catch (const InputError& error) {
      EXPECT_EQ(error.kind(), ErrorKind::usage);
      EXPECT_STREQ(error.what(), "job: /beta: 'to' must be larger than 'from'");
    }
}

TEST(Sheaf, what_is_derived_follows_from_the_other_and_beta) {
  const Quantity& free_energy = *find_analysis("sheaf")->find_quantity("free_energy");
  EXPECT_EQ(free_energy.derived.from, "log_partition");
  EXPECT_EQ(free_energy.derived.value(6, 0.5), -12);
}

}  // namespace
}  // namespace spectrace
