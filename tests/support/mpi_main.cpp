// The main() of tests that run on several ranks. Rank 0 prints the usual listing, the others only what failed, each
// line with its rank. After every test the ranks agree on whether any of them failed it; a rank that does not come back
// in time (it waits in a collective that a failed rank never entered) is named, and all are ended.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "spectrace/comm/communicator.hpp"
#include "spectrace/core/stopwatch.hpp"

namespace spectrace {
namespace {

constexpr double kPatienceSeconds = 60.0;
constexpr int kVerdictTag = 1, kGoOnTag = 2;

class RankListener : public testing::EmptyTestEventListener {
 public:
  explicit RankListener(Communicator& communicator) : communicator_(communicator) {}

  void OnTestPartResult(const testing::TestPartResult& part) override {
    if (!part.failed()) return;
    std::fprintf(stderr, "[  rank %d  ] %s:%d: failure\n%s\n", communicator_.rank(),
                 part.file_name() == nullptr ? "unknown file" : part.file_name(), part.line_number(), part.summary());
    std::fflush(stderr);
  }

  void OnTestEnd(const testing::TestInfo& test) override {
    const std::string name = std::string(test.test_suite_name()) + "." + test.name();
    const bool failed_here = test.result()->Failed();
    if (communicator_.is_root())
      judge(name, failed_here);
    else
      report(name, failed_here);
  }

  bool any_failed() const { return any_failed_; }

 private:
  /// Rank 0: takes every rank's verdict, says which ranks failed, lets all go on.
  void judge(const std::string& name, bool failed_here) {
    std::string failed_ranks = failed_here ? " 0" : "";
    std::vector<bool> is_back(static_cast<std::size_t>(communicator_.size()), false);
    is_back[0] = true;
    for (int num_left = communicator_.size() - 1; num_left > 0; --num_left) {
      const auto message = wait_for(kVerdictTag);
      if (!message) {
        for (int rank = 1; rank < communicator_.size(); ++rank)
          if (!is_back[static_cast<std::size_t>(rank)]) give_up(rank, name);
      } else {
        is_back[static_cast<std::size_t>(message->source)] = true;
        if (message->bytes != "passed") failed_ranks += " " + std::to_string(message->source);
      }
    }
    for (int rank = 1; rank < communicator_.size(); ++rank) communicator_.send(rank, kGoOnTag, "");
    if (failed_ranks.empty()) return;
    any_failed_ = true;
    std::fprintf(stderr, "[  FAILED  ] %s on rank%s\n", name.c_str(), failed_ranks.c_str());
  }

  void report(const std::string& name, bool failed_here) {
    communicator_.send(0, kVerdictTag, failed_here ? "failed" : "passed");
    if (!wait_for(kGoOnTag)) give_up(0, name);
  }

  /// Polls instead of blocking: the other side may hang in a collective that will never end.
  std::optional<Message> wait_for(int tag) {
    const Stopwatch stopwatch;
    while (stopwatch.elapsed_s() < kPatienceSeconds) {
      if (auto message = communicator_.try_receive(tag)) return message;
      std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
    return std::nullopt;
  }

  void give_up(int missing_rank, const std::string& name) {
    std::fprintf(stderr, "[  FAILED  ] rank %d waits: rank %d did not come back from %s within %.0f s\n",
                 communicator_.rank(), missing_rank, name.c_str(), kPatienceSeconds);
    communicator_.abort(1);
  }

  Communicator& communicator_;
  bool any_failed_ = false;
};

int run_all_tests(Communicator& communicator) {
  auto& listeners = testing::UnitTest::GetInstance()->listeners();
  if (!communicator.is_root()) delete listeners.Release(listeners.default_result_printer());
  auto* listener = new RankListener(communicator);  // gtest owns it
  listeners.Append(listener);
  const int result = RUN_ALL_TESTS();
  std::int64_t num_failed = result != 0 || listener->any_failed() ? 1 : 0;
  communicator.all_reduce_sum(std::span(&num_failed, 1));
  delete listeners.Release(listener);  // before the communicator that it uses
  return num_failed == 0 ? 0 : 1;
}

}  // namespace
}  // namespace spectrace

int main(int argc, char** argv) {
  const spectrace::MpiScope scope(argc, argv);
  testing::InitGoogleTest(&argc, argv);
  const auto communicator = spectrace::Communicator::world();
  return spectrace::run_all_tests(*communicator);
}
