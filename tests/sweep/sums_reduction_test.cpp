#include "spectrace/sweep/sums_reduction.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include "fake_reductions.hpp"

namespace spectrace {
namespace {

/// Three quantities of other sizes, one whose numbers differ by hundreds of orders of magnitude, one that has none.
const SumsShape kShape{.num_slots = {5, 1, 40}, .num_units = 9};

/// What a unit's prompts have of a quantity: NaN and infinities among it, zeros of both signs.
Array values_of(std::size_t unit, std::size_t quantity) {
  const auto slots = static_cast<std::size_t>(kShape.num_slots[quantity]);
  const std::size_t prompts = 1 + unit % 3;
  std::mt19937_64 random(100 * unit + quantity);
  Array array{{static_cast<std::int64_t>(prompts), static_cast<std::int64_t>(slots)}, {}};
  for (std::size_t i = 0; i < prompts * slots; ++i) {
    const double mantissa = std::ldexp(static_cast<double>(static_cast<std::int64_t>(random())), -63);
    const auto exponent = quantity == 0 ? 0 : static_cast<int>(random() % 1800) - 900;
    const double special[] = {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity(), -0.0,
                              0.0};
    array.values.push_back(random() % 5 == 0 ? special[random() % 4] : std::ldexp(mantissa, exponent));
  }
  return array;
}

void add(std::size_t unit, BatchSums& sums) {
  sums.units[unit] = 1;
  for (std::size_t q = 0; q < kShape.num_slots.size(); ++q)
    if (q != 1) sums.sums[q].add(values_of(unit, q));
}

void expect_same(const BatchSums& a, const BatchSums& b) {
  EXPECT_EQ(a.units, b.units);
  for (std::size_t q = 0; q < kShape.num_slots.size(); ++q) {
    const auto x = a.sums[q].finish(2).values, y = b.sums[q].finish(2).values;
    ASSERT_EQ(x.size(), y.size());
    EXPECT_EQ(std::memcmp(x.data(), y.data(), x.size() * sizeof(double)), 0) << "quantity " << q;
  }
}

class Ranks : public ::testing::TestWithParam<std::tuple<int, std::size_t>> {};

// The bits of one rank's sums, for any number of ranks, any shares and pieces.
TEST_P(Ranks, give_the_sums_of_one) {
  const auto [num_ranks, piece] = GetParam();
  BatchSums whole(kShape);
  for (std::size_t unit = 0; unit < kShape.num_units; ++unit) add(unit, whole);
  for (int receiver = 0; receiver < num_ranks; ++receiver) {
    FakeReductions reductions(num_ranks);
    std::vector<std::unique_ptr<SumsReduction>> ranks;
    for (int rank = 0; rank < num_ranks; ++rank) {
      std::optional<BatchSums> own;
      // The last of three and more has none.
      const int sharing = num_ranks > 2 ? num_ranks - 1 : num_ranks;
      if (rank < sharing) {
        own.emplace(kShape);
        for (std::size_t unit = 0; unit < kShape.num_units; ++unit)
          if (static_cast<int>(unit * unit) % sharing == rank) add(unit, *own);
      }
      ranks.push_back(std::make_unique<SumsReduction>(kShape, std::move(own), receiver, rank == receiver,
                                                      reductions.of(rank), piece));
    }
    // Some are asked more often than others.
    std::vector<bool> is_through(ranks.size(), false);
    for (int round = 0; round < 10'000; ++round)
      for (std::size_t rank = 0; rank < ranks.size(); ++rank)
        if (static_cast<std::size_t>(round) % (rank + 1) == 0) is_through[rank] = ranks[rank]->step();
    for (const bool through : is_through) ASSERT_TRUE(through);
    expect_same(ranks[static_cast<std::size_t>(receiver)]->take(), whole);
    for (const auto& rank : ranks) EXPECT_EQ(rank->num_bytes(), ranks.front()->num_bytes());
    EXPECT_LE(reductions.largest(), std::max<std::size_t>(piece, 190));  // a slot of 1800 and 3600 bits
  }
}
INSTANTIATE_TEST_SUITE_P(SumsReduction, Ranks,
                         ::testing::Combine(::testing::Values(1, 2, 3, 5),
                                            ::testing::Values(1, 7, 300, SumsReduction::kPieceValues)));

TEST(SumsReduction, of_nothing_is_nothing) {
  FakeReductions reductions(2);
  SumsReduction first(kShape, std::nullopt, 0, true, reductions.of(0)),
      second(kShape, BatchSums(kShape), 0, false, reductions.of(1));
  EXPECT_FALSE(first.step());
  for (bool are_through = false; !are_through;) {
    const bool is_through = first.step();
    are_through = second.step() && is_through;
  }
  expect_same(first.take(), BatchSums(kShape));
}

// Nothing is lost of what a collector sums from the journal beside it.
TEST(SumsReduction, what_comes_can_be_added_to) {
  BatchSums whole(kShape), own(kShape);
  for (std::size_t unit = 0; unit < kShape.num_units; ++unit) add(unit, whole);
  for (std::size_t unit = 0; unit < 4; ++unit) add(unit, own);
  const auto reductions = serial_reductions();
  SumsReduction reduction(kShape, std::move(own), 0, true, *reductions);
  EXPECT_TRUE(reduction.step());
  BatchSums sums = reduction.take();
  for (std::size_t unit = 4; unit < kShape.num_units; ++unit) add(unit, sums);
  expect_same(sums, whole);
}

}  // namespace
}  // namespace spectrace
