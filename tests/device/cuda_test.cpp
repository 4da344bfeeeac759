// What can be said of CUDA without a GPU: which of driver, GPU and library is missing, and the settings of exactness.
#include <ATen/Context.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "../../src/numerics/device_driver.hpp"
#include "spectrace/core/error.hpp"
#include "spectrace/numerics/device.hpp"

namespace spectrace {
namespace {

class FakeDriver : public ::testing::Test {
 protected:
  ~FakeDriver() override {
    ::unsetenv("FAKE_GPUS");
    ::unsetenv("FAKE_INIT");
  }
  static CudaObstacle obstacle(const char* gpus, const char* init, const std::string& folder = "/nowhere") {
    ::setenv("FAKE_GPUS", gpus, 1);
    ::setenv("FAKE_INIT", init, 1);
    return find_cuda_obstacle(SPECTRACE_FAKE_DRIVER, folder);
  }
};

TEST_F(FakeDriver, no_driver_is_named) {
  const CudaObstacle found = find_cuda_obstacle("libno-such-driver.so.1", "/nowhere");
  EXPECT_EQ(found.problem, "device cuda: no NVIDIA driver");
  EXPECT_NE(found.why.find("libno-such-driver.so.1"), std::string::npos) << found.why;
  EXPECT_NE(found.suggestion.find("--device cpu"), std::string::npos);
}

TEST_F(FakeDriver, a_driver_that_does_not_start_is_named) {
  const CudaObstacle found = obstacle("1", "803");
  EXPECT_EQ(found.problem, "device cuda: the NVIDIA driver does not start");
  EXPECT_EQ(found.why, "cuInit: CUDA_ERROR_SYSTEM_DRIVER_MISMATCH");
}

TEST_F(FakeDriver, no_gpu_is_named) {
  EXPECT_EQ(obstacle("0", "0").problem, "device cuda: no GPU");
  EXPECT_EQ(obstacle("0", "100").problem, "device cuda: no GPU");
}

TEST_F(FakeDriver, no_library_is_named) {
  const CudaObstacle found = obstacle("2", "0");
  EXPECT_EQ(found.problem, "device cuda: libtorch's CUDA part is not there");
  EXPECT_NE(found.why.find("/nowhere/libtorch_cuda.so"), std::string::npos) << found.why;
  EXPECT_NE(found.suggestion.find("tools/setup --cuda"), std::string::npos);
}

TEST_F(FakeDriver, gpus_are_described) {
  ::setenv("FAKE_GPUS", "2", 1);
  const CudaDriver driver = ask_cuda_driver(SPECTRACE_FAKE_DRIVER);
  ASSERT_EQ(driver.gpus.size(), 2u);
  EXPECT_EQ(driver.version, 13020);
  EXPECT_EQ(driver.gpus[0].name, "NVIDIA H100 80GB HBM3");
  EXPECT_EQ(driver.gpus[0].num_multiprocessors, 132);
  EXPECT_EQ(driver.gpus[0].major, 9);
  EXPECT_FALSE(driver.gpus[0].is_mig || driver.gpus[0].is_mps);
  EXPECT_TRUE(driver.gpus[1].is_mig);
  EXPECT_EQ(driver.gpus[0].uuid, std::string("0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a"));
}

// On a machine without a GPU: an error of use, and `auto` never gets here.
TEST(Cuda, device_is_there_or_says_what_is_missing) {
  const CudaObstacle obstacle = find_cuda_obstacle();
  if (obstacle.none()) {
    EXPECT_GT(num_cuda_devices(), 0);
    return;
  }
  EXPECT_EQ(num_cuda_devices(), 0);
  try {
    Device::cuda(0);
    FAIL() << "accepted";
  } catch (const InputError& error) {
    EXPECT_EQ(error.kind(), ErrorKind::usage);
    EXPECT_EQ(error.problem(), obstacle.problem);
  }
}

TEST(Cuda, exactness_is_demanded_and_read_back) {
  at::globalContext().setAllowTF32CuBLAS(true);
  ::setenv("CUBLAS_EMULATE_DOUBLE_PRECISION", "1", 1);
  EXPECT_EQ(exactness_facts()["tf32_cublas"], true);
  demand_exact_products();
  const Json facts = exactness_facts();
  for (const char* off : {"tf32_cublas", "tf32_cudnn", "reduced_precision_fp16", "reduced_precision_bf16"})
    EXPECT_EQ(facts[off], false) << off;
  EXPECT_EQ(facts["deterministic_algorithms"], true);
  EXPECT_EQ(facts["CUBLAS_EMULATE_DOUBLE_PRECISION"], "0");
  EXPECT_EQ(facts["CUBLAS_WORKSPACE_CONFIG"], ":4096:8");
  EXPECT_EQ(facts["NVIDIA_TF32_OVERRIDE"], "0");
  at::globalContext().setDeterministicAlgorithms(false, false);
}

TEST(Cuda, the_host_is_a_kind_of_its_own) {
  EXPECT_EQ(Device::cpu().kind(), "cpu");
  EXPECT_EQ(Device::cpu().facts(), (Json{{"kind", "cpu"}}));
  EXPECT_TRUE(Device::of(at::ones({2})) == Device::cpu());
}

}  // namespace
}  // namespace spectrace
