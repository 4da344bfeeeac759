#include "spectrace/sweep/compute_thread.hpp"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <string>
#include <thread>
#include <vector>

#include "support/temp_folder.hpp"

namespace spectrace {
namespace {

TEST(result_of, a_bug_in_a_worker_ends_the_run_and_is_called_one) {
  const auto failed =
      result_of([]() -> Report { return UnitsWorked{.journal_file = std::vector<std::string>().at(3)}; });
  const InputError& error = std::get<to_root::Failed>(failed).error;
  EXPECT_EQ(error.kind(), ErrorKind::io);
  EXPECT_NE(std::string(error.what()).find("this is a bug in spectrace"), std::string::npos) << error.what();
}

TEST(result_of, the_output_folders_trouble_is_told_as_it_is) {
  const auto failed = result_of([]() -> Report { throw InputError(ErrorKind::io, "no room", "disk full"); });
  EXPECT_STREQ(std::get<to_root::Failed>(failed).error.what(), "no room (disk full)");
}

TEST(result_of, a_report_is_reported) {
  const auto done = result_of([]() -> Report { return UnitsWorked{.journal_file = "j"}; });
  EXPECT_EQ(std::get<UnitsWorked>(std::get<to_root::Reported>(done).report).journal_file, "j");
}

/// Waits for what comes of an order.
to_root::Message report_of(ComputeThread& compute) {
  for (;;) {
    if (auto report = compute.take_report()) return *report;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

Order order_to(Step step) { return {.assignment = {.step = step, .model = 0, .units = {}}, .journal_files = {}}; }

TEST(ComputeThread, does_one_order_after_the_other_and_reports_each_once) {
  const TempFolder folder;
  const auto context = std::make_shared<RunContext>();
  context->num_threads = 2;
  context->job.output = folder.path();
  ModelEntry& entry = context->job.models.emplace_back();
  entry.name = "absent";
  entry.path = (folder.path() / "absent").string();
  ComputeThread compute(context);
  EXPECT_TRUE(compute.is_idle());
  EXPECT_FALSE(compute.take_report().has_value());
  for (int i = 0; i < 2; ++i) {
    compute.give(order_to(Step::open));
    const auto reported = std::get<to_root::Reported>(report_of(compute));
    EXPECT_EQ(std::get<ModelFinished>(reported.report).outcome.status, ModelStatus::failed);
    EXPECT_TRUE(compute.is_idle());
    EXPECT_FALSE(compute.take_report().has_value());
  }
}

TEST(ComputeThread, an_order_that_it_cannot_make_out_ends_the_run) {
  ComputeThread compute(std::make_shared<RunContext>());
  compute.give(order_to(static_cast<Step>(7)));
  const auto failed = std::get<to_root::Failed>(report_of(compute));
  EXPECT_NE(std::string(failed.error.what()).find("this is a bug in spectrace"), std::string::npos);
}

// Not only threads may be what it lacks.
TEST(ComputeThread, whatever_keeps_it_from_starting_is_an_error_by_name) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "its shadow takes terabytes of addresses";
#else
  const auto start = [] {
    const rlimit memory{std::uint64_t{12} << 30, std::uint64_t{12} << 30};
    ::setrlimit(RLIMIT_AS, &memory);
    const auto context = std::make_shared<RunContext>();
    context->num_threads = std::numeric_limits<int>::max();  // the list of them alone has 16 GiB
    try {
      const ComputeThread compute(context);
    } catch (const InputError& error) {
      std::fprintf(stderr, "%s", error.what());
      std::_Exit(error.kind() == ErrorKind::io ? 3 : 1);
    }
    std::_Exit(0);
  };
  EXPECT_EXIT(start(), testing::ExitedWithCode(3), "does not fit into memory");
#endif
}

}  // namespace
}  // namespace spectrace
