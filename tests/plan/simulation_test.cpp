#include "spectrace/plan/simulation.hpp"

#include <gtest/gtest.h>

#include <set>

namespace spectrace {
namespace {

Unit batch_of_100() { return {.work = BatchWork{.num_tokens = 100}, .flops = 2e9}; }

/// Four layers of matrices, an unembedding, ten batches of 100 tokens.
ModelLoad simple_load() {
  ModelLoad load;
  for (int l = 0; l < 4; ++l) load.units.push_back({.work = LayerWork{.layer = l}, .flops = 1e9});
  load.units.push_back({.work = RowsWork{}, .flops = 3e9});
  for (int b = 0; b < 10; ++b) load.units.push_back(batch_of_100());
  load.layer_bytes.assign(4, 1000);
  load.layer_costs = load.layer_bytes;
  load.layer_memory.assign(4, 2000);
  load.matrix_share = 0.25;
  load.unembedding_bytes = 500;
  load.bytes_under_way.assign(load.units.size(), 10);
  load.rates = {1e9, 1e9, 1e9, 1e12};
  return load;
}

MachineProfile simple_profile() {
  MachineProfile profile;
  profile.file_system_bytes_per_s = 1e12;
  profile.open_s = profile.collect_s = 0;
  return profile;
}

TEST(Simulation, one_rank_reads_every_layer_once_and_its_time_is_the_sum) {
  const SimulatedSweep sweep = simulate_sweep({simple_load()}, 1, simple_profile(), true);
  ASSERT_EQ(sweep.ranks.size(), 1u);
  EXPECT_NEAR(sweep.makespan_s, 27, 1e-6);  // 4 + 3 + 20
  EXPECT_NEAR(sweep.efficiency, 1, 1e-12);
  EXPECT_EQ(sweep.ranks[0].bytes, 4 * 1000 + 500);
  EXPECT_EQ(sweep.ranks[0].num_tokens, 1000);
  EXPECT_EQ(sweep.ranks[0].num_layers_read, 4u);
}

TEST(Simulation, a_limit_of_batches_under_way_makes_more_streams) {
  ModelLoad load = simple_load();
  load.hidden_bytes_limit = 30;  // three batches at a time
  EXPECT_EQ(simulate_sweep({load}, 1, simple_profile()).ranks[0].num_layers_read, 4u * 4u);
}

TEST(Simulation, every_unit_once_for_any_number_of_ranks) {
  for (const int ranks : {2, 3, 7, 100}) {
    const SimulatedSweep sweep = simulate_sweep({simple_load(), simple_load()}, ranks, simple_profile(), true);
    double flops = 0;
    for (const auto& rank : sweep.ranks) flops += rank.flops;
    EXPECT_NEAR(flops, 54e9, 1);
    EXPECT_LE(sweep.efficiency, 1 + 1e-12);
    EXPECT_GE(sweep.makespan_s, 54.0 / ranks - 1e-6);
    for (const auto& model : sweep.units) {
      std::multiset<std::size_t> seen;
      for (const auto& rank : model) seen.insert(rank.begin(), rank.end());
      EXPECT_EQ(seen.size(), 15u);
      EXPECT_EQ(std::set<std::size_t>(seen.begin(), seen.end()).size(), 15u);
    }
  }
}

TEST(Simulation, stages_share_the_layers_and_their_reading) {
  ModelLoad load = simple_load();
  load.stages = 2;
  load.resident_bytes_limit = 1 << 20;
  const SimulatedSweep sweep = simulate_sweep({load}, 2, simple_profile(), true);
  EXPECT_EQ(sweep.ranks[0].bytes + sweep.ranks[1].bytes, 4 * 1000 + 500);
  EXPECT_NEAR(sweep.ranks[0].flops + sweep.ranks[1].flops, 27e9, 1);
  // Each its two layers' matrices, both half of every batch; the first does the unembedding while the second, which had
  // to wait for the first batch, ends.
  EXPECT_NEAR(sweep.makespan_s, 2 + 10 + 3, 1e-6);
}

TEST(Simulation, stages_share_the_parts_of_the_unembedding) {
  ModelLoad load = simple_load();
  load.stages = 2;
  load.resident_bytes_limit = 1 << 20;
  load.units[4].flops = 1.5e9;
  load.units.push_back(load.units[4]);
  load.bytes_under_way.push_back(10);
  load.num_unembedding_parts = 2;
  const SimulatedSweep sweep = simulate_sweep({load}, 2, simple_profile(), true);
  EXPECT_EQ(sweep.ranks[0].bytes, 2 * 1000 + 250);
  EXPECT_EQ(sweep.ranks[1].bytes, 2 * 1000 + 250);
  EXPECT_NEAR(sweep.makespan_s, 2 + 10 + 1 + 1.5, 1e-6);  // the second waits for its first batch
  load.join_flops = 2e9;
  EXPECT_NEAR(simulate_sweep({load}, 2, simple_profile()).makespan_s, 2 + 10 + 1 + 1.5 + 2, 1e-6);
}

TEST(Simulation, who_reads_at_the_same_time_shares_the_file_system) {
  MachineProfile profile = simple_profile();
  profile.file_system_bytes_per_s = 400;  // a model has 4000 bytes
  ModelLoad load = simple_load();
  load.units = {batch_of_100()};  // of which no second rank can take a part
  load.bytes_under_way = {10};
  const std::vector<ModelLoad> two = {load, load};
  EXPECT_NEAR(simulate_sweep({load}, 1, profile).makespan_s, 2 + 10, 1e-6);
  EXPECT_NEAR(simulate_sweep(two, 2, profile).makespan_s, 2 + 20, 1e-6);
  EXPECT_NEAR(simulate_sweep(two, 1, profile).makespan_s, 2 * (2 + 10), 1e-6);
}

TEST(Simulation, layers_that_stay_are_read_once) {
  ModelLoad load = simple_load();
  load.hidden_bytes_limit = 30;  // four rounds
  load.resident_bytes_limit = 8000;
  EXPECT_EQ(simulate_sweep({load}, 1, simple_profile()).ranks[0].num_layers_read, 4u);
  load.resident_bytes_limit = 4000;  // half of them
  EXPECT_EQ(simulate_sweep({load}, 1, simple_profile()).ranks[0].num_layers_read, 4u + 3u * 2u);
}

TEST(Simulation, ranks_beyond_the_work_are_not_advised) {
  // Models of one batch: a rank has whole ones, so n of them keep r ranks busy for n of ceil(n / r) r turns. Asked for
  // are 1, 2, 3, 4, 6, 8, ... ranks until they are too many.
  ModelLoad load = simple_load();
  load.units = {batch_of_100()};
  load.bytes_under_way = {10};
  const auto advised = [&](std::size_t num_models, double efficiency) {
    return sensible_number_of_ranks(std::vector<ModelLoad>(num_models, load), simple_profile(), efficiency);
  };
  EXPECT_EQ(advised(1, 0.9), 1);
  EXPECT_EQ(advised(20, 0.9), 4);   // 20 of 21 turns of three, all of four, 20 of 24 of six
  EXPECT_EQ(advised(20, 0.96), 2);  // three are too many already
  EXPECT_EQ(advised(20, 0.8), 12);  // 20 of 24 turns of six, eight and twelve, of 32 of sixteen
  EXPECT_EQ(advised(48, 0.9), 24);
}

}  // namespace
}  // namespace spectrace
