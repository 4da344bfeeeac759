#include "spectrace/plan/model_plan.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <set>

namespace spectrace {
namespace {

PreparedSet set_of_lengths(const std::vector<std::size_t>& lengths) {
  PreparedSet set{"s", {}};
  for (const std::size_t length : lengths)
    set.prompts.push_back({std::to_string(set.prompts.size()), std::vector<std::int64_t>(length, 1), ""});
  return set;
}

TEST(MakeBatches, prompts_in_order_up_to_the_limit) {
  using Batches = std::vector<std::vector<std::size_t>>;
  EXPECT_EQ(make_batches(set_of_lengths({4, 4, 2, 1, 8}), 10), (Batches{{0, 1, 2}, {3, 4}}));
  EXPECT_EQ(make_batches(set_of_lengths({20, 1, 20}), 10), (Batches{{0}, {1}, {2}}));
  PreparedSet with_error = set_of_lengths({3, 3, 3});
  with_error.prompts[1].error = "too long";
  EXPECT_EQ(make_batches(with_error, 10), (Batches{{0, 2}}));
  EXPECT_TRUE(make_batches(set_of_lengths({}), 10).empty());
}

TEST(Identity, differences_are_named_and_new_names_are_none) {
  const Identity before = {{"weights", "aa"}, {"slicing", "correct"}, {"beta grid", "[1]"}};
  const Identity now = {{"weights", "bb"}, {"slicing", "correct"}, {"prompts of the set 'x'", "cc"}};
  EXPECT_EQ(identity_differences(before, now), std::vector<std::string>{"weights: was aa, now bb"});
  EXPECT_EQ(identity_from_json(identity_to_json(before)), before);
}

// As people read it: neither 64 digits nor every beta.
TEST(Identity, differences_are_short) {
  Json betas = Json::array();
  for (int i = 0; i < 25; ++i) betas.push_back(0.125 * i);
  const Identity before = {{"beta grid", betas.dump()}, {"prompts of the set 's'", std::string(64, 'a')}};
  const Identity now = {{"beta grid", "[0.5,1.0]"}, {"prompts of the set 's'", std::string(64, 'b')}};
  EXPECT_EQ(identity_differences(before, now),
            (std::vector<std::string>{"beta grid: was 25 values from 0.0 to 3.0, now [0.5,1.0]",
                                      "prompts of the set 's': was aaaaaaaa..., now bbbbbbbb..."}));
}

TEST(BetaGrid, ends_are_exact_and_steps_even_in_the_logarithm) {
  const auto grid = BetaGrid{1e-3, 1e3, 25}.values();
  ASSERT_EQ(grid.size(), 25u);
  EXPECT_EQ(grid.front(), 1e-3);
  EXPECT_EQ(grid.back(), 1e3);
  for (std::size_t i = 1; i < grid.size(); ++i) EXPECT_NEAR(grid[i] / grid[i - 1], std::pow(10.0, 0.25), 1e-14);
  EXPECT_EQ((BetaGrid{2.0, 2.0, 1}.values()), std::vector<double>{2.0});
}

TEST(identity, the_host_goes_without_saying) {
  const Identity host = {{"slicing", "correct"}, {"tokens_per_batch", "256"}};
  Identity there = host, weights = {{"slicing", "correct"}};
  there.emplace_back("device", "H100");
  EXPECT_EQ(identity_differences(host, host), std::vector<std::string>());
  EXPECT_EQ(identity_differences(there, there), std::vector<std::string>());
  EXPECT_EQ(identity_differences(host, there), std::vector<std::string>{"device: was cpu, now H100"});
  EXPECT_EQ(identity_differences(there, host), std::vector<std::string>{"device: was H100, now cpu"});
  // Spectra of weights are the host's everywhere.
  EXPECT_EQ(identity_differences(weights, there), std::vector<std::string>());
  EXPECT_EQ(identity_differences(there, weights), std::vector<std::string>());
}

}  // namespace
}  // namespace spectrace
