#include "spectrace/sweep/rank.hpp"

#include <gtest/gtest.h>

#include "fake_ranks.hpp"
#include "fake_reductions.hpp"
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
  OneRank() : rank_(context_, communicator_, reductions_.of(1), Patience{.silence_s = 45}, clock_, compute_) {}

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
  FakeReductions reductions_{2};
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

/// The other rank's part in a reduction, and what comes of it there.
BatchSums reduced_with(Reductions& of_other, const SumsShape& shape, const std::function<void()>& step) {
  BatchSums own(shape);
  own.units[1] = 1;
  own.sums[0].add({{1, 2}, {4, -1}});
  SumsReduction other(shape, std::move(own), 0, true, of_other);
  while (!other.step()) step();
  return other.take();
}

TEST_F(OneRank, takes_part_in_reductions_in_the_order_in_which_root_asks_for_them) {
  const SumsShape shape{.num_slots = {2}, .num_units = 3};
  context_.sums.add(4, shape, 1 << 20, [](BatchSums& sums) {
    sums.units[2] = 1;
    sums.sums[0].add({{1, 2}, {0.5, 8}});
  });
  for (const std::size_t model : {std::size_t{4}, std::size_t{6}})
    say(from_root::Reduce{.model = model, .receiver = 0, .shape = shape});
  for (const auto& [units, sums] : {std::pair{std::vector<std::int64_t>{0, 1, 1}, std::vector<double>{4.5, 7}},
                                    std::pair{std::vector<std::int64_t>{0, 1, 0}, std::vector<double>{4, -1}}}) {
    const BatchSums all = reduced_with(reductions_.of(0), shape, [&] { EXPECT_TRUE(rank_.step()); });
    EXPECT_EQ(all.units, units);
    const auto values = all.sums[0].finish(0).values;
    for (std::size_t slot = 0; slot < 2; ++slot) EXPECT_EQ(values[4 + slot] * values[slot], sums[slot]);
  }
  EXPECT_FALSE(context_.sums.take(4).has_value());
}

// None leaves the others alone in a reduction.
TEST_F(OneRank, leaves_when_what_was_asked_for_before_is_reduced) {
  heard();
  const SumsShape shape{.num_slots = {2}, .num_units = 2};
  say(from_root::Reduce{.model = 0, .receiver = 0, .shape = shape});
  say(from_root::Leave{.exit_code = 0});
  EXPECT_TRUE(rank_.step());
  EXPECT_TRUE(heard().empty());
  bool stays = true;
  reduced_with(reductions_.of(0), shape, [&] { stays = rank_.step(); });
  for (int i = 0; i < 100 && stays; ++i) stays = rank_.step();
  EXPECT_FALSE(stays);
  EXPECT_TRUE(std::holds_alternative<to_root::Left>(heard().at(0)));
}

// What is reduced to it waits for who collects.
TEST_F(OneRank, delivers_what_it_receives) {
  const SumsShape shape{.num_slots = {1}, .num_units = 1};
  say(from_root::Reduce{.model = 2, .receiver = 1, .shape = shape});
  BatchSums own(shape);
  own.units[0] = 1;
  own.sums[0].add({{1, 1}, {2.5}});
  SumsReduction other(shape, std::move(own), 1, false, reductions_.of(0));
  for (int i = 0; i < 100; ++i) {
    rank_.step();
    other.step();
  }
  const ReducedSums all = context_.sums.wait_for(2);
  EXPECT_EQ(all.sums.units, std::vector<std::int64_t>{1});
  EXPECT_EQ(all.sums.sums[0].finish(0).values[2], 2.5);
  EXPECT_EQ(all.backend, "fake");
  EXPECT_GT(all.num_bytes, 0u);
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
