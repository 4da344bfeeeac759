#include "spectrace/work/sums_store.hpp"

#include <gtest/gtest.h>

#include <thread>

namespace spectrace {
namespace {

const SumsShape kShape{.num_slots = {2, 3}, .num_units = 4};

/// Marks a unit as added.
auto with_unit(std::size_t unit) {
  return [unit](BatchSums& sums) { sums.units[unit] = 1; };
}

TEST(SumsStore, keeps_the_sums_of_each_model) {
  SumsStore store;
  for (const std::size_t unit : {std::size_t{0}, std::size_t{2}})
    EXPECT_TRUE(store.add(7, kShape, 1 << 20, with_unit(unit)));
  EXPECT_TRUE(store.add(8, kShape, 1 << 20, with_unit(3)));
  EXPECT_EQ(store.take(7).value().units, (std::vector<std::int64_t>{1, 0, 1, 0}));
  EXPECT_FALSE(store.take(7).has_value());
  EXPECT_EQ(store.take(8).value().units, (std::vector<std::int64_t>{0, 0, 0, 1}));
  // They begin anew.
  EXPECT_TRUE(store.add(7, kShape, 1 << 20, with_unit(1)));
  EXPECT_EQ(store.take(7).value().units, (std::vector<std::int64_t>{0, 1, 0, 0}));
}

TEST(SumsStore, takes_no_more_than_it_may) {
  SumsStore store;
  const std::int64_t of_one = sums_bytes(kShape);
  EXPECT_FALSE(store.add(0, kShape, of_one - 1, with_unit(0)));
  EXPECT_FALSE(store.take(0).has_value());
  EXPECT_TRUE(store.add(0, kShape, of_one, with_unit(0)));
  EXPECT_FALSE(store.add(1, kShape, 2 * of_one - 1, with_unit(0)));
  EXPECT_TRUE(store.add(0, kShape, 0, with_unit(1)));  // it has its room
  EXPECT_TRUE(store.add(1, kShape, 2 * of_one, with_unit(0)));
  static_cast<void>(store.take(0));
  EXPECT_TRUE(store.add(2, kShape, 2 * of_one, with_unit(0)));
}

TEST(SumsStore, who_collects_waits_for_what_is_reduced) {
  SumsStore store;
  std::thread other([&] {
    BatchSums sums(kShape);
    sums.units[2] = 1;
    store.deliver(1, {.sums = BatchSums(kShape), .backend = "mpi"});
    store.deliver(5, {.sums = std::move(sums), .backend = "mpi", .num_bytes = 9, .seconds = 0.5});
  });
  const ReducedSums reduced = store.wait_for(5);
  other.join();
  EXPECT_EQ(reduced.sums.units, (std::vector<std::int64_t>{0, 0, 1, 0}));
  EXPECT_EQ(reduced.backend, "mpi");
  EXPECT_EQ(reduced.num_bytes, 9u);
}

}  // namespace
}  // namespace spectrace
