#include "../../src/store/limited_process.hpp"

#include <gtest/gtest.h>

#include <csignal>
#include <cstdlib>
#include <ctime>

#include "spectrace/core/error.hpp"

namespace spectrace {
namespace {

ProcessEnd shell(const std::string& script, const ProcessLimits& limits = {}) {
  return run_limited({"/bin/sh", "-c", script}, limits);
}

TEST(limited_process, what_is_said_comes_back) {
  const ProcessEnd end = shell("echo a line; echo not heard >&2; cat");
  EXPECT_EQ(end.output, "a line\n");
  EXPECT_EQ(end.failure, "");
}

TEST(limited_process, a_crash_is_told_from_an_exit) {
  EXPECT_NE(shell("kill -SEGV $$").failure.find("signal 11"), std::string::npos);
  EXPECT_EQ(shell("exit 3").failure, "it ended with code 3");
}

TEST(limited_process, one_that_never_ends_is_ended) {
  EXPECT_EQ(shell("exec sleep 1000", {.seconds = 1}).failure, "it took more than 3 s");
}

TEST(limited_process, one_that_talks_without_end_is_ended) {
  EXPECT_NE(shell("exec yes", {.output_bytes = 1000}).failure.find("more than 1000 bytes"), std::string::npos);
}

TEST(limited_process, it_sees_nothing_of_the_launcher) {
  ::setenv("OMPI_COMM_WORLD_RANK", "1", 1);
  ::setenv("PMIX_NAMESPACE", "x", 1);
  const ProcessEnd end = shell("env");
  ::unsetenv("OMPI_COMM_WORLD_RANK");
  ::unsetenv("PMIX_NAMESPACE");
  EXPECT_EQ(end.output.find("OMPI_"), std::string::npos) << end.output;
  EXPECT_EQ(end.output.find("PMIX_"), std::string::npos);
  EXPECT_NE(end.output.find("PATH="), std::string::npos);
}

TEST(limited_process, what_cannot_be_started_is_an_error) {
  try {
    const ProcessEnd end = run_limited({"/nowhere/program"}, {});
    EXPECT_NE(end.failure, "");
  } catch (const InputError& error) {
    EXPECT_NE(std::string(error.what()).find("/nowhere/program"), std::string::npos);
  }
}

TEST(limited_process, too_much_computing_is_told_from_a_crash) {
  EXPECT_EQ(shell("kill -XCPU $$", {.seconds = 7}).failure, "it took more than 7 s of computing");
}

// The limits hold for the process that sets them: tried in one of its own.
TEST(limited_process_death, memory_is_bounded) {
  EXPECT_EXIT(
      {
        limit_this_process(60, std::uint64_t{64} << 20);
        const bool small = std::malloc(std::size_t{16} << 20) != nullptr;
        const bool large = std::malloc(std::size_t{128} << 20) != nullptr;
        std::_Exit(small && !large ? 0 : 1);
      },
      testing::ExitedWithCode(0), "");
}

TEST(limited_process_death, computing_is_bounded) {
  EXPECT_EXIT(
      {
        limit_this_process(1, std::uint64_t{64} << 20);
        for (;;) static_cast<void>(std::clock());
      },
      testing::KilledBySignal(SIGXCPU), "");
}

}  // namespace
}  // namespace spectrace
