#include "spectrace/sweep/totals.hpp"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cstdint>
#include <cstdlib>
#include <limits>

namespace spectrace {
namespace {

// What a run took is said where it can be; it is no reason to fail a run that is done.
TEST(totals, a_peak_that_cannot_be_measured_fails_no_run) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "its shadow takes terabytes of addresses";
#else
  const auto account = [] {
    const rlimit memory{std::uint64_t{12} << 30, std::uint64_t{12} << 30};
    ::setrlimit(RLIMIT_AS, &memory);
    RunContext context;
    context.num_threads = std::numeric_limits<int>::max();  // the list of them alone has 16 GiB
    const auto communicator = Communicator::serial();
    log_totals(context, {}, /*elapsed_s=*/6, *communicator);
    std::_Exit(0);
  };
  EXPECT_EXIT(account(), testing::ExitedWithCode(0), "6.0 s, 0 % of the ranks' time at work");
#endif
}

}  // namespace
}  // namespace spectrace
