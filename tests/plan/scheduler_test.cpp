#include "spectrace/plan/scheduler.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <queue>
#include <set>

namespace spectrace {
namespace {

/// Unit u of model m.
double flops_of(std::size_t m, std::size_t u) { return static_cast<double>((m * 131 + u * 37) % 23 + 1); }

std::vector<OpenUnit> units_of(std::size_t m, std::size_t count) {
  std::vector<OpenUnit> units;
  for (std::size_t u = 0; u < count; ++u) units.push_back({u, flops_of(m, u), flops_of(m, u)});
  return units;
}

struct Outcome {
  double makespan = 0, total = 0, largest_unit = 0;
  std::size_t num_streams = 0;
};

/// Runs a sweep in simulated time: an assignment takes as long as its units' flops, shared by those who do it; opening
/// and collecting 1e-3. stages[m]: of model m, 1 where absent.
Outcome simulate(const std::vector<std::size_t>& num_units, int num_ranks, const std::vector<int>& stages = {}) {
  Scheduler scheduler(num_units.size(), num_ranks);
  Outcome outcome;
  std::vector<std::multiset<std::size_t>> done(num_units.size());
  std::vector<int> num_opened(num_units.size()), num_collected(num_units.size());
  using Event = std::pair<double, int>;  // when which rank is free
  std::priority_queue<Event, std::vector<Event>, std::greater<>> events;
  std::map<int, Assignment> running;
  std::set<int> idle;
  for (int rank = 0; rank < num_ranks; ++rank) idle.insert(rank);
  double now = 0;
  const auto hand_out = [&] {
    for (int rank = 0; rank < num_ranks; ++rank) {
      if (!idle.contains(rank)) continue;
      const auto assignment = scheduler.next(rank);
      if (!assignment) continue;
      EXPECT_TRUE(assignment->first_rank <= rank && rank < assignment->first_rank + assignment->num_ranks);
      double duration = 1e-3;
      if (assignment->step == Step::work) {
        const int wanted = assignment->model < stages.size() ? stages[assignment->model] : 1;
        EXPECT_EQ(assignment->first_rank % wanted, 0);
        EXPECT_EQ(assignment->num_ranks, std::min(wanted, num_ranks - assignment->first_rank));
        ++outcome.num_streams;
        duration = 0;
        for (const std::size_t unit : assignment->units) duration += flops_of(assignment->model, unit);
        duration /= assignment->num_ranks;
      } else {
        EXPECT_EQ(assignment->num_ranks, 1);
      }
      for (int member = assignment->first_rank; member < assignment->first_rank + assignment->num_ranks; ++member) {
        EXPECT_EQ(idle.erase(member), 1u) << "rank " << member << " is at work already";
        running[member] = *assignment;
        events.emplace(now + duration, member);
      }
    }
  };
  for (hand_out(); !events.empty(); hand_out()) {
    const auto [when, rank] = events.top();
    events.pop();
    now = when;
    const Assignment assignment = running.at(rank);
    const std::size_t m = assignment.model;
    if (assignment.step == Step::open) {
      ++num_opened[m];
      scheduler.opened(rank, units_of(m, num_units[m]), true, m < stages.size() ? stages[m] : 1);
    } else if (assignment.step == Step::work) {
      if (rank == assignment.first_rank) done[m].insert(assignment.units.begin(), assignment.units.end());
      scheduler.worked(rank);
    } else {
      // Only when every unit is done.
      EXPECT_EQ(done[m].size(), num_units[m]);
      ++num_collected[m];
      scheduler.collected(rank);
    }
    idle.insert(rank);
  }
  EXPECT_TRUE(scheduler.all_done());
  outcome.makespan = now;
  for (std::size_t m = 0; m < num_units.size(); ++m) {
    EXPECT_EQ(num_opened[m], 1);
    EXPECT_EQ(num_collected[m], 1);
    for (std::size_t u = 0; u < num_units[m]; ++u) {
      EXPECT_EQ(done[m].count(u), 1u) << "model " << m << " unit " << u;
      outcome.total += flops_of(m, u);
      outcome.largest_unit = std::max(outcome.largest_unit, flops_of(m, u));
    }
  }
  return outcome;
}

TEST(Scheduler, every_unit_once_and_no_rank_idles_longer_than_a_few_units) {
  const std::vector<std::vector<std::size_t>> sweeps = {{50}, {50, 3, 70}, {0, 4}, std::vector<std::size_t>(40, 30)};
  for (const auto& sweep : sweeps)
    for (const int ranks : {1, 2, 3, 8, 64}) {
      const Outcome outcome = simulate(sweep, ranks);
      EXPECT_LE(outcome.makespan, outcome.total / ranks + 3 * outcome.largest_unit + 1)
          << sweep.size() << " models on " << ranks << " ranks";
    }
}

TEST(Scheduler, one_rank_takes_a_model_in_one_stream) { EXPECT_EQ(simulate({50, 20, 7}, 1).num_streams, 3u); }

TEST(Scheduler, with_models_enough_a_rank_takes_a_model_whole) {
  // The last models are shared.
  EXPECT_LE(simulate(std::vector<std::size_t>(100, 30), 4).num_streams, 100u + 4 * 20);
}

TEST(Scheduler, groups_of_consecutive_ranks_share_a_model_with_stages) {
  for (const int ranks : {1, 2, 3, 4, 8, 13}) {
    const std::vector<std::size_t> sweep = {60, 5, 90};
    const Outcome outcome = simulate(sweep, ranks, {2, 1, 3});
    EXPECT_LE(outcome.makespan, 2 * outcome.total / ranks + 6 * outcome.largest_unit + 1) << ranks << " ranks";
  }
}

TEST(Scheduler, a_group_waits_until_all_of_it_is_free) {
  Scheduler scheduler(2, 2);
  scheduler.next(0);  // opens model 0
  scheduler.next(1);  // opens model 1
  scheduler.opened(0, units_of(0, 9), true, 2);
  EXPECT_FALSE(scheduler.next(0).has_value());
  EXPECT_TRUE(scheduler.has_work());
  scheduler.opened(1, {}, false);
  const auto assignment = scheduler.next(1);
  ASSERT_TRUE(assignment.has_value());
  EXPECT_EQ(assignment->first_rank, 0);
  EXPECT_EQ(assignment->num_ranks, 2);
  EXPECT_TRUE(assignment->is_last);  // one group: all of it
  EXPECT_EQ(assignment->units.size(), 9u);
  scheduler.worked(0);
  EXPECT_FALSE(scheduler.next(0).has_value());  // the other is not done
  scheduler.worked(1);
  EXPECT_EQ(scheduler.next(0)->step, Step::collect);
}

TEST(Scheduler, a_model_that_was_given_up_is_neither_handed_out_nor_collected) {
  Scheduler scheduler(1, 2);
  scheduler.next(0);
  scheduler.opened(0, units_of(0, 9), true);
  ASSERT_EQ(scheduler.next(0)->step, Step::work);
  ASSERT_EQ(scheduler.next(1)->step, Step::work);
  scheduler.gave_up(1);
  EXPECT_FALSE(scheduler.next(1).has_value());
  EXPECT_FALSE(scheduler.all_done());  // the other is still at work on it
  scheduler.worked(0);
  EXPECT_TRUE(scheduler.all_done());
}

TEST(Scheduler, groups_of_a_model_take_equal_shares_and_leave_no_rest) {
  Scheduler scheduler(1, 10);
  scheduler.next(0);
  std::vector<OpenUnit> units;
  for (std::size_t u = 0; u < 50; ++u) units.push_back({u, 1, 1});
  scheduler.opened(0, units, true, 2);
  for (int rank = 0; rank < 10; rank += 2) EXPECT_EQ(scheduler.next(rank)->units.size(), 10u) << "rank " << rank;
  EXPECT_FALSE(scheduler.has_work());
}

TEST(Scheduler, groups_wait_until_it_is_known_what_all_models_have_to_do) {
  Scheduler scheduler(2, 4);
  scheduler.next(0);
  scheduler.next(1);
  scheduler.opened(0, units_of(0, 9), true, 2);
  EXPECT_FALSE(scheduler.next(2).has_value());
  scheduler.opened(1, units_of(1, 9), true, 2);
  // A group a model, not both for the one that was there first.
  EXPECT_EQ(scheduler.next(2)->units.size(), 9u);
  EXPECT_EQ(scheduler.next(0)->units.size(), 9u);
}

TEST(Scheduler, undivided_units_go_to_ranks_without_a_group_if_these_can_do_them_in_time) {
  // The last unit takes a rank alone a quarter of its seconds.
  const auto hand_out = [](int num_ranks, double undivided_s) {
    Scheduler scheduler(1, num_ranks);
    scheduler.next(0);
    std::vector<OpenUnit> units;
    for (std::size_t u = 0; u < 16; ++u) units.push_back({u, 1, 1});
    units.push_back({16, 1, undivided_s, true});
    scheduler.opened(0, units, true, 4);
    std::vector<Assignment> given;
    for (int rank = 0; rank < num_ranks; ++rank)
      if (!scheduler.is_busy(rank)) {
        if (auto assignment = scheduler.next(rank)) given.push_back(*assignment);
      }
    EXPECT_FALSE(scheduler.has_work());
    EXPECT_TRUE(given.back().is_last);
    for (const Assignment& assignment : given)
      for (int i = 0; i < assignment.num_ranks; ++i) scheduler.worked(assignment.first_rank + i);
    EXPECT_EQ(scheduler.next(0)->step, Step::collect);
    return given;
  };
  const auto apart = hand_out(9, 8);
  ASSERT_EQ(apart.size(), 3u);
  EXPECT_EQ(apart[0].units.size(), 8u);
  EXPECT_EQ(apart[1].units.size(), 8u);
  EXPECT_EQ(apart[2].units, std::vector<std::size_t>{16});
  EXPECT_EQ(apart[2].first_rank, 8);
  EXPECT_EQ(apart[2].num_ranks, 1);
  // Nobody is left over, or the one who is would take too long.
  for (const auto& together : {hand_out(8, 8), hand_out(9, 100)}) {
    ASSERT_EQ(together[0].num_ranks, 4);
    EXPECT_EQ(together[0].units.back(), 16u);
  }
}

TEST(Scheduler, two_undivided_units_keep_two_ranks_of_a_group_busy) {
  // A group of four takes twice a unit's own seconds: two of its ranks wait. The one rank that is left over needs both.
  const auto first_share = [](double seconds) {
    Scheduler scheduler(1, 9);
    scheduler.next(0);
    std::vector<OpenUnit> units;
    for (std::size_t u = 0; u < 16; ++u) units.push_back({u, 1, 1});
    for (std::size_t u = 16; u < 18; ++u) units.push_back({u, 1, 2 * seconds, true});
    scheduler.opened(0, units, true, 4);
    return scheduler.next(0)->units;
  };
  EXPECT_LT(first_share(4).back(), 16u);  // 8 s, as long as each group's share
  EXPECT_GE(first_share(5).back(), 16u);
}

TEST(Scheduler, units_whose_records_are_missing_are_handed_out_again) {
  Scheduler scheduler(1, 2);
  EXPECT_EQ(scheduler.next(0)->step, Step::open);
  EXPECT_FALSE(scheduler.next(1).has_value());
  scheduler.opened(0, {{3, 1.0, 1.0}}, true);
  EXPECT_EQ(scheduler.next(1)->units, std::vector<std::size_t>{3});
  EXPECT_FALSE(scheduler.next(0).has_value());
  scheduler.worked(1);
  EXPECT_EQ(scheduler.next(0)->step, Step::collect);
  scheduler.collected(0, {{3, 1.0, 1.0}});
  EXPECT_FALSE(scheduler.all_done());
  EXPECT_EQ(scheduler.next(0)->step, Step::work);
  scheduler.worked(0);
  EXPECT_EQ(scheduler.next(1)->step, Step::collect);
  scheduler.collected(1);
  EXPECT_TRUE(scheduler.all_done());
}

}  // namespace
}  // namespace spectrace
