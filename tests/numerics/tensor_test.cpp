#include "spectrace/numerics/tensor.hpp"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "spectrace/core/error.hpp"
#include "spectrace/core/parallel.hpp"

namespace spectrace {
namespace {

/// The computations run in tasks, on one thread each: so do the tests.
class OneThread : public ::testing::Environment {
  void SetUp() override { set_compute_threads(1); }
};
[[maybe_unused]] const auto* const one_thread = ::testing::AddGlobalTestEnvironment(new OneThread);

TEST(ComputeType, names_and_types_belong_together) {
  for (const ComputeType type : {ComputeType::float32, ComputeType::float64})
    EXPECT_EQ(type, parse_compute_type(name(type)));
  EXPECT_EQ(at::kFloat, scalar_type(parse_compute_type("float32")));
  EXPECT_EQ(at::kDouble, scalar_type(parse_compute_type("float64")));
  EXPECT_THROW(parse_compute_type("float16"), InputError);
}

TEST(ComputeThreads, a_task_has_one_thread_of_libtorch) {
  set_compute_threads(3);
  EXPECT_EQ(3, num_threads());
  std::vector<int> threads(16);
  parallel_for(16, [&](std::int64_t i) { threads[static_cast<std::size_t>(i)] = at::get_num_threads(); });
  EXPECT_EQ(std::vector<int>(16, 1), threads);
  set_compute_threads(1);
}

}  // namespace
}  // namespace spectrace
