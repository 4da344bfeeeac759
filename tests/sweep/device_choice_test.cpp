#include "spectrace/sweep/device_choice.hpp"

#include <gtest/gtest.h>

#include "spectrace/core/error.hpp"

namespace spectrace {
namespace {

std::vector<DeviceOfRank> equal_ranks() {
  return {
      {"node1", {}, "H100", "a"}, {"node1", {}, "H100", "b"}, {"node2", {}, "H100", "a"}, {"node1", {}, "H100", "a"}};
}

std::string error_of(const std::vector<DeviceOfRank>& ranks) {
  try {
    expect_one_kind(ranks);
  } catch (const InputError& error) {
    EXPECT_EQ(error.kind(), ErrorKind::usage);
    return error.what();
  }
  return {};
}

TEST(device_choice, equal_gpus_are_taken) {
  EXPECT_EQ(error_of(equal_ranks()), "");
  EXPECT_EQ(ranks_on_device_of(0, equal_ranks()), 2);
  EXPECT_EQ(ranks_on_device_of(1, equal_ranks()), 1);
  EXPECT_EQ(ranks_on_device_of(2, equal_ranks()), 1);
}

TEST(device_choice, a_rank_without_a_gpu_is_named) {
  auto ranks = equal_ranks();
  ranks[2].obstacle = {"device cuda: no GPU", "the NVIDIA driver finds none", "Ask for one."};
  EXPECT_EQ(error_of(ranks), "device cuda: no GPU (rank 2 on node2) (the NVIDIA driver finds none) Ask for one.");
  EXPECT_EQ(error_of({ranks[2]}), "device cuda: no GPU (the NVIDIA driver finds none) Ask for one.");
}

TEST(device_choice, gpus_of_two_kinds_are_refused) {
  auto ranks = equal_ranks();
  ranks[3].kind = "A100";
  const std::string error = error_of(ranks);
  EXPECT_NE(error.find("rank 0 on node1: H100; rank 3 on node1: A100"), std::string::npos) << error;
}

TEST(device_choice, the_cpu_and_auto_ask_no_driver) {
  const auto communicator = Communicator::serial();
  EXPECT_TRUE(choose_device(DeviceChoice::cpu, *communicator).device == Device::cpu());
  if (!kCudaWasRun) {
    EXPECT_TRUE(choose_device(DeviceChoice::automatic, *communicator).device == Device::cpu());
  }
}

}  // namespace
}  // namespace spectrace
