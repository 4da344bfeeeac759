#include "spectrace/numerics/tensor_memory.hpp"

#include <gtest/gtest.h>

#include <optional>
#include <string>

#include "spectrace/numerics/tensor.hpp"

namespace spectrace {
namespace {

TEST(TensorMemory, what_is_beyond_the_limit_is_refused_and_what_is_freed_counts_no_more) {
  constexpr std::int64_t kMiB = 1 << 20;
  const std::int64_t before = tensor_memory_bytes();
  limit_tensor_memory(before + 24 * kMiB);
  std::optional<Tensor> first = at::zeros({2 * kMiB}, at::kDouble);  // 16 MiB
  EXPECT_GE(tensor_memory_bytes(), before + 16 * kMiB);
  EXPECT_LT(tensor_memory_bytes(), before + 17 * kMiB);
  try {
    at::empty({2 * kMiB}, at::kDouble);
    ADD_FAILURE() << "32 MiB fit into 24";
  } catch (const TensorMemoryError& error) {
    EXPECT_NE(std::string(error.what()).find("a tensor of 0.02 GiB does not fit"), std::string::npos) << error.what();
  }
  const Tensor view = first->narrow(0, 0, 5);
  first.reset();
  EXPECT_THROW(at::empty({2 * kMiB}, at::kDouble), TensorMemoryError);  // a view holds all of it
  EXPECT_EQ(view.sum().item<double>(), 0.0);
  limit_tensor_memory(std::int64_t{1} << 60);
}

TEST(TensorMemory, growing_in_place_is_counted) {
  const std::int64_t before = tensor_memory_bytes();
  limit_tensor_memory(before + (4 << 20));
  {
    Tensor grown = at::ones({1000}, at::kFloat);
    grown.resize_({100'000});
    EXPECT_GE(tensor_memory_bytes(), before + 400'000);
    EXPECT_EQ(grown[999].item<float>(), 1.0F);
  }
  EXPECT_EQ(tensor_memory_bytes(), before);
  limit_tensor_memory(std::int64_t{1} << 60);
}

}  // namespace
}  // namespace spectrace
