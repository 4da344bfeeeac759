#include "spectrace/results/batch_sums.hpp"

#include <gtest/gtest.h>

#include <filesystem>

#include "spectrace/measure/prompts.hpp"
#include "spectrace/plan/open_model.hpp"

namespace spectrace {
namespace {

/// Two sets of a small model, each prompt a batch.
class Sums : public ::testing::Test {
 protected:
  Record record_of(const Unit& unit) const {
    const BatchWork& batch = *unit.of_batch();
    Record record =
        PromptMeasurement(model_.description, batch_of(plan_, batch), plan_.sets[batch.set].analyses).so_far();
    for (auto& [name, array] : record.arrays)
      for (std::size_t i = 0; i < array.values.size(); ++i)
        array.values[i] = static_cast<double>(batch.prompts.front() + 10 * batch.set) + 0.25 * static_cast<double>(i);
    return record;
  }

  const OpenModel model_ =
      open_model_folder(std::filesystem::path(SPECTRACE_SOURCE_DIR) / "tests/data/model/gpt2", IoMode::automatic);
  const ModelPlan plan_ = [&] {
    PlanOptions options;
    options.tokens_per_batch = 2;
    return plan_model(
        model_.description, AnalysisChoice::of({"weights"}),
        planned({PreparedSet{"s", {{"a", {1, 2}, ""}, {"b", {3, 4}, ""}}}, PreparedSet{"t", {{"c", {5, 6}, ""}}}},
                AnalysisChoice::of({"sheaf", "residual"})),
        options);
  }();
  const SummedQuantities summed_{model_.description, plan_, Slicing::correct};
};

TEST_F(Sums, have_every_quantity_of_every_set_that_has_statistics) {
  std::vector<std::int64_t> expected;
  for (const PlannedSet& set : plan_.sets)
    for (const Chosen& chosen : set.analyses)
      for (const Quantity* quantity : chosen.quantities())
        if (quantity->has_statistics)
          expected.push_back(num_values(*quantity, chosen.extents(model_.description, Slicing::correct), "prompt"));
  EXPECT_EQ(summed_.shape().num_slots, expected);
  EXPECT_EQ(summed_.shape().num_units, 3u + 3u);  // layers, batches
  EXPECT_GT(sums_bytes(summed_.shape()), 0);
}

// Each set by itself; what follows from another quantity along a grid, too.
TEST_F(Sums, are_over_the_prompts_of_a_set) {
  BatchSums sums(summed_.shape());
  for (std::size_t u = 0; u < plan_.units.size(); ++u)
    if (const BatchWork* batch = plan_.units[u].of_batch()) summed_.add(u, *batch, record_of(plan_.units[u]), sums);
  EXPECT_EQ(sums.units, (std::vector<std::int64_t>{0, 0, 0, 1, 1, 1}));
  for (std::size_t set = 0; set < 2; ++set) {
    std::size_t num_seen = 0;
    summed_.for_each_of(set, sums, [&](const Quantity& quantity, const StatisticsSums& of_quantity) {
      ++num_seen;
      const auto values = of_quantity.finish(0).values;
      const std::size_t slots = values.size() / 6;
      EXPECT_EQ(values[0], set == 0 ? 2 : 1) << quantity.name;  // count
      const double first = set == 0 ? 0.5 : 10;
      if (quantity.derived.from.empty()) {
        for (std::size_t i = 0; i < slots; ++i)
          EXPECT_EQ(values[2 * slots + i], first + 0.25 * static_cast<double>(i)) << quantity.name;
      } else {
        EXPECT_NE(values[2 * slots], first) << quantity.name;
      }
    });
    EXPECT_EQ(num_seen, summed_.shape().num_slots.size() / 2);
  }
}

}  // namespace
}  // namespace spectrace
