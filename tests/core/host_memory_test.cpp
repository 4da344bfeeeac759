#include "spectrace/core/host_memory.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

namespace spectrace {
namespace {

TEST(HostMemory, is_some_and_not_more_than_there_is) {
  const std::int64_t physical = static_cast<std::int64_t>(::sysconf(_SC_PHYS_PAGES)) * ::sysconf(_SC_PAGESIZE);
  EXPECT_GT(host_memory_bytes(), 16 << 20);
  EXPECT_LE(host_memory_bytes(), physical);
}

}  // namespace
}  // namespace spectrace
