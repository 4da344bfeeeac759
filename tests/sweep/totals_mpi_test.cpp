#include <fmt/format.h>
#include <gtest/gtest.h>

#include <chrono>
#include <map>
#include <sstream>
#include <thread>
#include <vector>

#include "spectrace/measure/catalogue.hpp"
#include "spectrace/measure/stages.hpp"
#include "spectrace/sweep/totals.hpp"

namespace spectrace {
namespace {

constexpr double kLongEnough_s = 6;  // for an account of the stages
constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;

void work_on(const char* analysis, std::uint64_t gib) {
  const Stage stage = stage_of(*find_analysis(analysis));
  const StageTimer timer(stage);
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  count_bytes(stage, gib * kGiB);
}

/// The last word of each line of the log, by its first word after "info:".
std::map<std::string, std::string> last_words(const std::string& log) {
  std::map<std::string, std::string> found;
  std::istringstream lines(log);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::vector<std::string> all;
    for (std::string word; words >> word;) all.push_back(word);
    if (all.size() > 2) found.emplace(all[1], all.back());
  }
  return found;
}

// Every other rank comes to the heads first, as where ranks share a model's units.
TEST(totals_mpi, stages_are_added_up_by_name_whatever_a_rank_does_first) {
  const auto communicator = Communicator::world();
  if (communicator->rank() % 2 == 0) {
    work_on("weights", 1);
    work_on("heads", 10);
  } else {
    work_on("heads", 10);
    work_on("weights", 1);
  }
  const RunContext context;
  testing::internal::CaptureStderr();
  log_totals(context, {}, kLongEnough_s, *communicator);
  const std::string log = testing::internal::GetCapturedStderr();
  if (!communicator->is_root()) return;
  auto read_gib = last_words(log);
  EXPECT_EQ(read_gib["weights"], fmt::format("{:.2f}", 1.0 * communicator->size())) << log;
  EXPECT_EQ(read_gib["heads"], fmt::format("{:.2f}", 10.0 * communicator->size())) << log;
}

}  // namespace
}  // namespace spectrace
