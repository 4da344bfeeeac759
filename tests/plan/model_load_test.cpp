#include "spectrace/plan/model_load.hpp"

#include <gtest/gtest.h>

#include <numeric>

namespace spectrace {
namespace {

TEST(StageLayers, every_layer_in_one_stage_in_order) {
  for (const int layers : {1, 2, 5, 32})
    for (const int stages : {1, 2, 3, 7, 40}) {
      const auto ranges = stage_layers(std::vector<double>(static_cast<std::size_t>(layers), 3.0), stages);
      ASSERT_EQ(ranges.size(), static_cast<std::size_t>(stages));
      std::int64_t next = 0;
      for (const auto& range : ranges) {
        EXPECT_EQ(range.first, next);
        EXPECT_LE(range.size(), (layers + stages - 1) / stages);
        next = range.last;
      }
      EXPECT_EQ(next, layers);
    }
}

TEST(StageLayers, cut_by_cost_and_not_by_number) {
  const auto ranges = stage_layers({1, 1, 1, 1, 4}, 2);
  EXPECT_EQ(ranges[0].last, 4);
}

/// `layers` layers of 1 GB, `batches` batches of 1e12 flops.
ModelLoad made_load(int layers, int batches) {
  ModelLoad load;
  for (int b = 0; b < batches; ++b) load.units.push_back({.work = BatchWork{.num_tokens = 4096}, .flops = 1e12});
  load.bytes_under_way.assign(load.units.size(), 1 << 20);
  load.layer_bytes.assign(static_cast<std::size_t>(layers), 1e9);
  load.layer_costs = load.layer_bytes;
  load.layer_memory.assign(static_cast<std::size_t>(layers), 2e9);
  load.resident_bytes_limit = std::int64_t{1} << 40;
  load.rates.prompt_flops_per_s = 1e12;
  load.rates.read_bytes_per_s = 1e9;
  return load;
}

MachineProfile profile_of(double file_system_bytes_per_s) {
  MachineProfile profile;
  profile.file_system_bytes_per_s = file_system_bytes_per_s;
  return profile;
}

TEST(ChooseStages, ranks_stay_alone_where_reading_is_a_small_part) {
  // Each reads 32 GB in 32 s and computes for 250 batches of a second.
  EXPECT_EQ(choose_stages(made_load(4, 1000), 4, 4, profile_of(1e12)), 1);
}

TEST(ChooseStages, more_stages_the_less_the_file_system_gives) {
  int before = 1;
  for (const double rate : {1e12, 1e9, 1e8, 1e7}) {
    const int stages = choose_stages(made_load(32, 1000), 64, 64, profile_of(rate));
    EXPECT_GE(stages, before);
    EXPECT_LE(stages, 32);
    before = stages;
  }
  EXPECT_GT(before, 8);
}

TEST(ChooseStages, never_more_than_ranks_or_layers_and_one_without_prompts) {
  EXPECT_LE(choose_stages(made_load(32, 1000), 3, 4096, profile_of(1e7)), 3);
  EXPECT_LE(choose_stages(made_load(2, 1000), 64, 4096, profile_of(1e7)), 2);
  EXPECT_EQ(choose_stages(made_load(32, 0), 64, 64, profile_of(1e7)), 1);
}

TEST(ChooseStages, a_few_batches_do_not_fill_a_long_pipeline) {
  // Reading is nothing: every further stage only waits.
  ModelLoad load = made_load(32, 64);
  load.rates.read_bytes_per_s = 1e15;
  EXPECT_EQ(choose_stages(load, 64, 64, profile_of(1e15)), 1);
}

}  // namespace
}  // namespace spectrace
