#include "spectrace/numerics/tensor_memory.hpp"

#include <gtest/gtest.h>

#include <cinttypes>
#include <cstdio>
#include <fstream>
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

/// The line of flags that the system keeps of the memory at `address` (/proc/self/smaps); empty where it keeps none.
std::string memory_flags(const void* address) {
  std::ifstream maps("/proc/self/smaps");
  std::string line;
  bool is_inside = false;
  while (std::getline(maps, line)) {
    std::uintptr_t begin = 0, end = 0;
    if (std::sscanf(line.c_str(), "%" SCNxPTR "-%" SCNxPTR " ", &begin, &end) == 2)
      is_inside = begin <= reinterpret_cast<std::uintptr_t>(address) && reinterpret_cast<std::uintptr_t>(address) < end;
    else if (is_inside && line.starts_with("VmFlags:"))
      return line + " ";
  }
  return "";
}

TEST(TensorMemory, large_blocks_ask_for_large_pages) {
  limit_tensor_memory(std::int64_t{1} << 60);
  if (!std::ifstream("/sys/kernel/mm/transparent_hugepage/enabled")) GTEST_SKIP() << "this system has no large pages";
  const auto asks = [](const Tensor& tensor) {
    const char* const middle = static_cast<const char*>(tensor.data_ptr()) + tensor.nbytes() / 2;
    return memory_flags(middle).find(" hg ") != std::string::npos;
  };
  EXPECT_TRUE(asks(at::empty({16 << 20}, at::kByte)));
  EXPECT_FALSE(asks(at::empty({1 << 20}, at::kByte)));
}

}  // namespace
}  // namespace spectrace
