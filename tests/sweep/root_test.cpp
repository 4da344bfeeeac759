#include "spectrace/sweep/root.hpp"

#include <gtest/gtest.h>

#include "fake_ranks.hpp"
#include "spectrace/core/file.hpp"
#include "spectrace/core/json.hpp"
#include "spectrace/sweep/exit_code.hpp"
#include "support/temp_folder.hpp"

namespace spectrace {
namespace {

/// Root of a sweep of two models over three ranks, which the test plays.
class RootOfThree : public testing::Test {
 protected:
  RootOfThree() {
    context_.job.output = folder_.path();
    for (const char* name : {"a", "b"}) context_.job.models.emplace_back().name = name;
    root_ = std::make_unique<Root>(context_, communicator_, Patience{.silence_s = 45, .stop_s = 40}, clock_,
                                   [this] { return keeps_folder_; });
  }

  void say(int from, const to_root::Message& message) {
    communicator_.incoming.push_back({from, kToRoot, encode(message)});
  }
  void all_are_ready() {
    for (int rank = 0; rank < 3; ++rank) say(rank, to_root::Ready{.host = "h", .pid = 10 + rank});
    root_->step();
  }
  /// What root has said since the last call.
  std::vector<std::pair<int, from_root::Message>> heard() {
    std::vector<std::pair<int, from_root::Message>> all;
    for (const auto& sent : std::exchange(communicator_.sent, {})) {
      EXPECT_EQ(sent.tag, kFromRoot);
      all.emplace_back(sent.destination, decode_from_root(sent.bytes, 0));
    }
    return all;
  }
  void finish(int from, ModelStatus status) {
    say(from, to_root::Reported{.report = ModelFinished{.outcome = {.status = status, .error = "e"},
                                                        .rows = summarize(Job(), ModelEntry(), {}, nullptr),
                                                        .was_there = false}});
  }
  std::string shown_state() { return Json::parse(read_text_file(folder_.path() / "progress.json"))["state"]; }

  const TempFolder folder_;
  RunContext context_;
  FakeCommunicator communicator_{0, 3};
  FakeClock clock_;
  bool keeps_folder_ = true;
  std::unique_ptr<Root> root_;
};

TEST_F(RootOfThree, hands_models_out_and_says_when_to_leave) {
  all_are_ready();
  const auto orders = heard();
  ASSERT_EQ(orders.size(), 2u);  // a model for each of two ranks
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(orders[i].first, static_cast<int>(i));
    EXPECT_EQ(std::get<from_root::Do>(orders[i].second).order.assignment.step, Step::open);
  }
  finish(0, ModelStatus::ok);
  root_->step();
  EXPECT_TRUE(heard().empty());
  finish(1, ModelStatus::failed);
  root_->step();
  const auto leave = heard();
  ASSERT_EQ(leave.size(), 3u);
  for (const auto& [to, message] : leave) EXPECT_EQ(std::get<from_root::Leave>(message).exit_code, kSomeFailed);
  EXPECT_EQ(shown_state(), "done with errors");
  EXPECT_FALSE(root_->all_have_left());
  for (int rank = 0; rank < 3; ++rank) say(rank, to_root::Left{});
  root_->step();
  EXPECT_TRUE(root_->all_have_left());
  EXPECT_EQ(root_->take_rows().size(), 2u);
}

// A signal to mpirun may reach a rank that has not heard yet that the run is over.
TEST_F(RootOfThree, a_stop_that_comes_after_the_end_changes_nothing) {
  all_are_ready();
  for (const int rank : {0, 1}) finish(rank, ModelStatus::ok);
  root_->step();
  heard();
  say(2, to_root::StopAsked{.reason = "SIGTERM"});
  testing::internal::CaptureStderr();
  root_->step();
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
  EXPECT_TRUE(heard().empty());
  EXPECT_EQ(shown_state(), "done");
  EXPECT_EQ(root_->exit_code(), kAllDone);
}

TEST_F(RootOfThree, collects_by_the_names_of_the_journals_that_ranks_wrote) {
  all_are_ready();
  heard();
  say(0, to_root::Reported{.report = ModelOpened{.units = {{.unit = 0, .flops = 1, .seconds = 1}}}});
  root_->step();
  auto orders = heard();
  ASSERT_EQ(orders.size(), 1u);
  EXPECT_EQ(std::get<from_root::Do>(orders[0].second).order.assignment.units, std::vector<std::size_t>{0});
  say(orders[0].first, to_root::Reported{.report = UnitsWorked{.journal_file = "rank-0000.journal"}});
  root_->step();
  orders = heard();
  ASSERT_EQ(orders.size(), 1u);
  const Order& collect = std::get<from_root::Do>(orders[0].second).order;
  EXPECT_EQ(collect.assignment.step, Step::collect);
  EXPECT_EQ(collect.journal_files, std::vector<std::string>{"rank-0000.journal"});
  EXPECT_FALSE(collect.sums_come);  // nothing has statistics
}

// To every rank, before the one that collects is told to: it waits for what comes of it.
TEST_F(RootOfThree, has_a_models_sums_reduced_when_its_units_are_done) {
  const SumsShape shape{.num_slots = {3, 1}, .num_units = 1};
  all_are_ready();
  heard();
  say(0, to_root::Reported{.report = ModelOpened{.units = {{.unit = 0, .flops = 1, .seconds = 1}}, .sums = shape}});
  root_->step();
  const int worker = heard().at(0).first;
  say(worker, to_root::Reported{.report = UnitsWorked{.journal_file = "j", .tensors = {{"w", "1"}, {"v", "2"}}}});
  root_->step();
  const auto said = heard();
  ASSERT_EQ(said.size(), 4u);
  const auto& collect = std::get<from_root::Do>(said[3].second).order;
  for (int rank = 0; rank < 3; ++rank) {
    EXPECT_EQ(said[static_cast<std::size_t>(rank)].first, rank);
    const auto& reduce = std::get<from_root::Reduce>(said[static_cast<std::size_t>(rank)].second);
    EXPECT_EQ(reduce.model, 0u);
    EXPECT_EQ(reduce.receiver, said[3].first);
    EXPECT_EQ(reduce.shape, shape);
  }
  EXPECT_EQ(collect.assignment.step, Step::collect);
  EXPECT_TRUE(collect.sums_come);
  EXPECT_EQ(collect.tensors, (std::vector<std::pair<std::string, std::string>>{{"v", "2"}, {"w", "1"}}));
}

TEST_F(RootOfThree, an_error_of_a_rank_stops_all) {
  all_are_ready();
  heard();
  say(1, to_root::Failed{.error = InputError(ErrorKind::io, "no room")});
  root_->step();
  const auto stop = heard();
  ASSERT_EQ(stop.size(), 3u);
  for (const auto& [to, message] : stop) EXPECT_TRUE(std::holds_alternative<from_root::Stop>(message));
  say(0, to_root::Reported{.report = UnitsWorked{}});  // it was told to open: not what belongs to that
  EXPECT_THROW(root_->step(), Aborted);
}

TEST_F(RootOfThree, a_stop_waits_for_what_is_under_way_but_not_for_ever) {
  all_are_ready();
  heard();
  say(2, to_root::StopAsked{.reason = "SIGTERM"});
  root_->step();
  EXPECT_EQ(heard().size(), 3u);
  EXPECT_EQ(shown_state(), "stopping");
  for (; clock_.now_s < 39; clock_.now_s += 13) {
    for (int rank = 0; rank < 3; ++rank) say(rank, to_root::Alive{});
    root_->step();
    for (const auto& [to, message] : heard()) EXPECT_TRUE(std::holds_alternative<from_root::Alive>(message));
  }
  clock_.now_s = 40.5;
  root_->step();
  const auto leave = heard();
  ASSERT_EQ(leave.size(), 3u);
  EXPECT_EQ(std::get<from_root::Leave>(leave[0].second).exit_code, kStopped);
  EXPECT_EQ(shown_state(), "stopped");
}

void expect_end(Root& root) {
  try {
    root.step();
    ADD_FAILURE() << "the run goes on";
  } catch (const Aborted& aborted) {
    EXPECT_EQ(aborted.exit_code, kNothingReadOrWritten);
  }
}

TEST_F(RootOfThree, silence_of_a_rank_ends_the_run) {
  all_are_ready();
  clock_.now_s = 44;
  for (const int rank : {0, 2}) say(rank, to_root::Alive{});
  root_->step();
  clock_.now_s = 46;
  expect_end(*root_);
  EXPECT_EQ(shown_state(), "failed");
}

TEST_F(RootOfThree, an_unknown_word_ends_the_run) {
  all_are_ready();
  std::string bytes;
  Json::to_cbor({{"say", "hello"}}, bytes);
  communicator_.incoming.push_back({2, kToRoot, bytes});
  testing::internal::CaptureStderr();
  expect_end(*root_);
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_NE(said.find("rank 2 sent 'hello'"), std::string::npos) << said;
  EXPECT_NE(said.find("this is a bug in spectrace"), std::string::npos) << said;
}

TEST_F(RootOfThree, a_report_that_nobody_asked_for_ends_the_run) {
  all_are_ready();
  finish(2, ModelStatus::ok);  // two models, so rank 2 has none
  expect_end(*root_);
}

TEST_F(RootOfThree, a_lost_folder_ends_the_run) {
  all_are_ready();
  keeps_folder_ = false;
  expect_end(*root_);
}

}  // namespace
}  // namespace spectrace
