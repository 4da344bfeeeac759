#include "spectrace/core/host_memory.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <vector>

namespace spectrace {
namespace {

TEST(HostMemory, is_some_and_not_more_than_there_is) {
  const std::int64_t physical = static_cast<std::int64_t>(::sysconf(_SC_PHYS_PAGES)) * ::sysconf(_SC_PAGESIZE);
  EXPECT_GT(host_memory_bytes(), 16 << 20);
  EXPECT_LE(host_memory_bytes(), physical);
}

TEST(PeakMemory, grows_with_what_is_touched) {
  const std::uint64_t before = peak_memory_bytes();
  EXPECT_GT(before, 1u << 20);
  const std::size_t bytes = before + (64 << 20);
  {
    const std::vector<char> touched(bytes, 'x');
    EXPECT_GE(peak_memory_bytes(), bytes);
  }
  EXPECT_GE(peak_memory_bytes(), bytes);  // and stays
}

}  // namespace
}  // namespace spectrace
