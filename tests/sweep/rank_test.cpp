#include "spectrace/sweep/rank.hpp"

#include <gtest/gtest.h>

#include "fake_ranks.hpp"
#include "spectrace/core/json.hpp"
#include "spectrace/sweep/exit_code.hpp"

namespace spectrace {
namespace {

/// Does nothing until a test says what came of it.
struct FakeCompute final : Compute {
  std::optional<Order> given;
  std::optional<to_root::Message> report;
  void give(Order order) override { given = std::move(order); }
  bool is_idle() const override { return !given; }
  std::optional<to_root::Message> take_report() override { return std::exchange(report, std::nullopt); }
};

class OneRank : public testing::Test {
 protected:
  OneRank() : rank_(context_, communicator_, Patience{.silence_s = 45}, clock_, compute_) {}

  void say(const from_root::Message& message) { communicator_.incoming.push_back({0, kFromRoot, encode(message)}); }
  /// What the rank has said since the last call.
  std::vector<to_root::Message> heard() {
    std::vector<to_root::Message> all;
    for (const auto& sent : std::exchange(communicator_.sent, {})) {
      EXPECT_EQ(sent.destination, 0);
      EXPECT_EQ(sent.tag, kToRoot);
      all.push_back(decode_to_root(sent.bytes, 1));
    }
    return all;
  }

  RunContext context_;
  FakeCommunicator communicator_{1, 2};
  FakeClock clock_;
  FakeCompute compute_;
  Rank rank_;
};

TEST_F(OneRank, gives_orders_on_and_reports_with_its_flops) {
  ASSERT_TRUE(std::holds_alternative<to_root::Ready>(heard().at(0)));
  say(from_root::Do{{.assignment = {.step = Step::work, .model = 3, .units = {}}, .journal_files = {}}});
  EXPECT_TRUE(rank_.step());
  ASSERT_TRUE(compute_.given.has_value());
  EXPECT_EQ(compute_.given->assignment.model, 3u);
  context_.add_flops(7);
  compute_.report = to_root::Reported{.report = UnitsWorked{.journal_file = "j"}};
  EXPECT_TRUE(rank_.step());
  EXPECT_EQ(std::get<to_root::Reported>(heard().at(0)).flops_done, 7);
  compute_.report = to_root::Failed{.error = InputError(ErrorKind::io, "no room")};
  EXPECT_TRUE(rank_.step());
  EXPECT_EQ(std::get<to_root::Failed>(heard().at(0)).flops_done, 7);
}

TEST_F(OneRank, tells_that_it_lives_and_leaves_when_told) {
  heard();
  EXPECT_TRUE(rank_.step());
  EXPECT_TRUE(heard().empty());
  clock_.now_s = 1.5;
  EXPECT_TRUE(rank_.step());
  EXPECT_TRUE(std::holds_alternative<to_root::Alive>(heard().at(0)));
  say(from_root::Leave{.exit_code = 75});
  EXPECT_FALSE(rank_.step());
  EXPECT_TRUE(std::holds_alternative<to_root::Left>(heard().at(0)));
  EXPECT_EQ(rank_.exit_code(), 75);
}

TEST_F(OneRank, asks_once_for_a_stop_and_does_not_wait_for_it) {
  heard();
  rank_.ask_to_stop("SIGTERM");
  rank_.ask_to_stop("SIGTERM");
  EXPECT_TRUE(context_.stop);
  const auto said = heard();
  ASSERT_EQ(said.size(), 1u);
  EXPECT_EQ(std::get<to_root::StopAsked>(said[0]).reason, "SIGTERM");
}

TEST_F(OneRank, ends_the_run_where_root_is_silent_or_not_understood) {
  clock_.now_s = 44;
  say(from_root::Alive{});
  EXPECT_TRUE(rank_.step());
  clock_.now_s = 88;
  EXPECT_TRUE(rank_.step());
  clock_.now_s = 90;
  EXPECT_THROW(rank_.step(), Aborted);
  std::string bytes;
  Json::to_cbor({{"say", "hello"}}, bytes);
  communicator_.incoming.push_back({0, kFromRoot, bytes});
  testing::internal::CaptureStderr();
  try {
    rank_.step();
    ADD_FAILURE() << "the run goes on";
  } catch (const Aborted& aborted) {
    EXPECT_EQ(aborted.exit_code, kNothingReadOrWritten);
  }
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_NE(said.find("rank 0 sent 'hello'"), std::string::npos) << said;
}

}  // namespace
}  // namespace spectrace
