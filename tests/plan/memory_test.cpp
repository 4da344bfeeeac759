#include "spectrace/plan/memory.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "numerics/peak_memory.hpp"
#include "spectrace/core/parallel.hpp"
#include "spectrace/measure/prompts.hpp"
#include "spectrace/numerics/attention_patterns.hpp"
#include "spectrace/plan/certain_need.hpp"
#include "spectrace/plan/open_model.hpp"

namespace spectrace {
namespace {

/// Spectra of W_Q, W_K, W_V, W_O and of their heads.
AnalysisChoice of_matrices() { return AnalysisChoice::of({"weights", "heads"}); }

class HostMemory : public ::testing::Test {
 protected:
  MemoryNeed need(DeviceChoice device, const AnalysisChoice& analyses) {
    PreparedSet set{"s", {}};
    set.prompts.push_back({"p", std::vector<std::int64_t>(64, 1), ""});
    job_.compute.device = device;
    job_.analyses = analyses;
    return memory_need(
        model_.description,
        plan_model(model_.description, analyses, planned({set}, analyses), plan_options(job_, model_.config.json())),
        job_);
  }

  Job job_;
  OpenModel model_ =
      open_model_folder(std::filesystem::path(SPECTRACE_SOURCE_DIR) / "tests/data/model/llama3", IoMode::read);
};

TEST_F(HostMemory, spectra_and_laplacians_are_taken_one_after_the_other_but_beside_a_gpu) {
  const AnalysisChoice prompts = AnalysisChoice::of({"attention", "sheaf", "residual"}), weights = of_matrices(),
                       both = AnalysisChoice::of({"weights", "heads", "attention", "sheaf", "residual"});
  const auto cpu = DeviceChoice::cpu, gpu = DeviceChoice::cuda;
  EXPECT_EQ(need(cpu, both).workspace, std::max(need(cpu, prompts).workspace, need(cpu, weights).workspace));
  EXPECT_EQ(need(gpu, both).workspace, need(gpu, prompts).workspace + need(cpu, weights).workspace);
  // The block's own is the GPU's.
  EXPECT_LT(need(gpu, prompts).workspace, need(cpu, prompts).workspace);
  EXPECT_EQ(need(gpu, prompts).libraries, need(cpu, prompts).libraries + 2 * Device::kBroughtAtOnce);
  EXPECT_GT(need(gpu, prompts).layer, need(cpu, prompts).layer);
}

TEST_F(HostMemory, heads_are_brought_to_the_host_where_they_are_not_there) {
  const AnalysisChoice patterns = AnalysisChoice::of({"patterns"});
  const std::int64_t brought = attention_patterns_bytes(model_.description.num_heads, 64);
  EXPECT_EQ(need(DeviceChoice::cuda, patterns).workspace, brought);
  EXPECT_EQ(measurement_workspace_bytes(model_.description, patterns, 64), 0);
}

/// What one thread takes for a long prompt in one layer, measured; of these analyses.
class LongPrompt : public HostMemory, public ::testing::WithParamInterface<std::vector<std::string>> {
 protected:
  // 4 heads of 1100 x 1100 entries are past the size from which some heads are in memory at a time.
  static constexpr std::int64_t kTokens = 1100;

  std::int64_t measured_bytes(const AnalysisChoice& analyses) {
    const ModelDescription& model = model_.description;
    const LayerWeights weights = read_layer(model, model_.store, 0, ComputeType::float32);
    const auto values = value_spectra(model, weights.w_v.weight, Slicing::correct);
    TokenBatch batch{{}, {0, kTokens}};
    for (std::int64_t i = 0; i < kTokens; ++i) batch.token_ids.push_back((i * i + 3 * i) % model.vocab_size);
    const Tensor first = embed(model, model_.store, batch, ComputeType::float32).hidden;
    const auto run = [&] {
      PromptMeasurement measurement(model, batch, analyses);
      BlockBatch in_block{.tokens = &batch, .hidden = first, .wants_scores = measurement.wants().scores};
      if (measurement.wants().attention)
        in_block.observe = [&](std::int64_t prompt, std::int64_t first_head, const Tensor& a, const RowScores& scores) {
          measurement.see_attention(0, prompt, first_head, a, values, scores);
        };
      run_block(model, 0, weights, std::span(&in_block, 1));
      ASSERT_FALSE(in_block.error);
    };
    run();  // what libtorch and the value spectra make once
    return peak_tensor_bytes(run);
  }
};

TEST_P(LongPrompt, takes_what_is_planned_and_no_less_than_what_is_certain) {
  const AnalysisChoice analyses = AnalysisChoice::of(GetParam());
  const ModelDescription& model = model_.description;
  ASSERT_TRUE(has_long_attention(model, kTokens));
  const std::int64_t measured = measured_bytes(analyses);
  const PromptWants wants = wants_of(analyses);
  std::int64_t expected = block_workspace_bytes(model, kTokens, kTokens, ComputeType::float32, wants.attention) +
                          measurement_workspace_bytes(model, analyses, kTokens);
  if (wants.scores) expected += scores_workspace_bytes(model, kTokens, ComputeType::float32);
  EXPECT_NEAR(static_cast<double>(expected), static_cast<double>(measured), 0.1 * static_cast<double>(measured));
  PreparedSet set{"s", {{"p", std::vector<std::int64_t>(static_cast<std::size_t>(kTokens), 1), ""}}};
  std::vector<std::string> with_residual = GetParam();
  with_residual.push_back("residual");
  const AnalysisChoice choice = AnalysisChoice::of(with_residual);
  const ModelPlan plan = plan_model(model, choice, planned({set}, choice), plan_options(job_, model_.config.json()));
  ASSERT_EQ(plan.units.size(), 1u);
  const std::int64_t beside = layer_size_bytes(model, 0, ComputeType::float32) + kTokens * model.hidden_size * 4;
  const std::int64_t certain = CertainNeed(model, plan, ComputeType::float32).bytes(plan.units[0]);
  EXPECT_LE(certain, measured + beside);
  EXPECT_GE(certain, (measured + beside) / 2) << "most of it is certain";
}

std::string name_of_analyses(const ::testing::TestParamInfo<std::vector<std::string>>& test) {
  std::string name;
  for (const auto& analysis : test.param) name += analysis;
  return name.empty() ? "neither" : name;
}

using Names = std::vector<std::string>;
INSTANTIATE_TEST_SUITE_P(Analyses, LongPrompt,
                         ::testing::Values(Names{"attention"}, Names{"sheaf"}, Names{"attention", "sheaf"},
                                           Names{"patterns"}, Names{}),
                         name_of_analyses);

TEST_F(HostMemory, of_a_long_prompt_grows_with_threads_and_not_with_heads) {
  ModelDescription model = model_.description;
  const std::int64_t n = 4096;
  const auto bytes = [&](std::int64_t heads, int threads) {
    set_compute_threads(threads);
    model.num_heads = heads;
    // Projections are not the attention's.
    const std::int64_t projections = n * heads * model.head_dim * 4;
    const std::int64_t found = block_workspace_bytes(model, n, n, ComputeType::float32, true) - projections +
                               measurement_workspace_bytes(model, AnalysisChoice::of({"attention", "sheaf"}), n);
    set_compute_threads(1);
    return found;
  };
  EXPECT_LE(bytes(64, 2) - bytes(32, 2), 32 * 10 * 8 * n) << "of a head some numbers a token";
  EXPECT_GT(bytes(64, 4), bytes(64, 2));
  EXPECT_LT(bytes(64, 2), 64 * n * n * 4) << "all heads in float32";
}

TEST_F(HostMemory, layers_in_flight_follow_threads_and_room) {
  ModelDescription model = model_.description;
  model.num_layers = 12;
  model.layers.assign(12, model.layers.front());
  job_.compute.device = DeviceChoice::cpu;
  const auto plan = plan_model(model, of_matrices(), {}, plan_options(job_, model_.config.json()));
  const std::int64_t ample = std::int64_t{1} << 40;
  for (const auto& [threads, layers] :
       std::vector<std::pair<int, std::int64_t>>{{1, 1}, {7, 1}, {8, 2}, {16, 4}, {400, 12}}) {
    set_compute_threads(threads);
    EXPECT_EQ(layers_in_flight(job_, model, plan, ample), layers) << threads << " threads";
  }
  set_compute_threads(16);
  // Room for two of the four that threads ask for; and for none beside the first.
  const MemoryNeed need = memory_need(model, plan, job_);
  EXPECT_EQ(in_flight_bytes(job_, model, plan, 1), 0);
  const std::int64_t least = need.libraries + (need.layer + need.workspace) * 5 / 4;
  EXPECT_EQ(layers_in_flight(job_, model, plan, least + in_flight_bytes(job_, model, plan, 2)), 2);
  EXPECT_EQ(layers_in_flight(job_, model, plan, need.libraries + 1), 1);
  // Where no spectra are taken, their workspace is no part of it.
  PreparedSet set{"s", {{"p", {1, 2}, ""}}};
  const AnalysisChoice residual = AnalysisChoice::of({"residual"});
  const auto prompts = plan_model(model, residual, planned({set}, residual), plan_options(job_, model_.config.json()));
  EXPECT_EQ(layers_in_flight(job_, model, prompts, ample), 1);
  EXPECT_EQ(in_flight_bytes(job_, model, prompts, 1), 0);
  // Beside a GPU, one at a time.
  job_.compute.device = DeviceChoice::cuda;
  EXPECT_EQ(layers_in_flight(job_, model, plan, ample), 1);
  set_compute_threads(1);
}

TEST_F(HostMemory, weights_alone_need_no_gpu) {
  const MemoryNeed there = need(DeviceChoice::cuda, of_matrices()), here = need(DeviceChoice::cpu, of_matrices());
  EXPECT_EQ(there.least(), here.least());
}

}  // namespace
}  // namespace spectrace
