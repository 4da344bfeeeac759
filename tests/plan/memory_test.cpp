#include "spectrace/plan/memory.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "spectrace/plan/open_model.hpp"

namespace spectrace {
namespace {

/// Spectra of W_Q, W_K, W_V, W_O and of their heads.
constexpr AnalysisChoice kWeights = {true, true, false, false, false, false};

class HostMemory : public ::testing::Test {
 protected:
  MemoryNeed need(DeviceChoice device, const AnalysisChoice& analyses) {
    PreparedSet set{"s", {}};
    set.prompts.push_back({"p", std::vector<std::int64_t>(64, 1), ""});
    job_.compute.device = device;
    job_.analyses = analyses;
    return memory_need(model_.description,
                       plan_model(model_.description, analyses, {set}, plan_options(job_, model_.config.json())), job_);
  }

  Job job_;
  OpenModel model_ =
      open_model_folder(std::filesystem::path(SPECTRACE_SOURCE_DIR) / "tests/data/model/llama3", IoMode::read);
};

TEST_F(HostMemory, spectra_and_laplacians_are_taken_one_after_the_other_but_beside_a_gpu) {
  const AnalysisChoice prompts = {false, false, false, true, true, true}, weights = kWeights,
                       both = {true, true, false, true, true, true};
  const auto cpu = DeviceChoice::cpu, gpu = DeviceChoice::cuda;
  EXPECT_EQ(need(cpu, both).workspace, std::max(need(cpu, prompts).workspace, need(cpu, weights).workspace));
  EXPECT_EQ(need(gpu, both).workspace, need(gpu, prompts).workspace + need(cpu, weights).workspace);
  // The block's own is the GPU's.
  EXPECT_LT(need(gpu, prompts).workspace, need(cpu, prompts).workspace);
  EXPECT_EQ(need(gpu, prompts).libraries, need(cpu, prompts).libraries + 2 * Device::kBroughtAtOnce);
  EXPECT_GT(need(gpu, prompts).layer, need(cpu, prompts).layer);
}

TEST_F(HostMemory, weights_alone_need_no_gpu) {
  const MemoryNeed there = need(DeviceChoice::cuda, kWeights), here = need(DeviceChoice::cpu, kWeights);
  EXPECT_EQ(there.least(), here.least());
}

}  // namespace
}  // namespace spectrace
