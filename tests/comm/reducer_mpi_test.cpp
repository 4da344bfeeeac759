#include <gtest/gtest.h>

#include <vector>

#include "spectrace/comm/reducer.hpp"
#include "spectrace/core/error.hpp"

namespace spectrace {
namespace {

TEST(reducer_mpi, adds_and_compares_over_ranks) {
  const auto communicator = Communicator::world(64);
  const auto reducer = make_reducer(ReduceBackend::mpi, *communicator);
  EXPECT_STREQ(reducer->backend(), "mpi");
  const int rank = communicator->rank(), size = communicator->size();
  std::vector<std::int64_t> sums(50);
  std::vector<double> least(50), most(50);
  for (std::size_t i = 0; i < sums.size(); ++i) {
    sums[i] = static_cast<std::int64_t>(i) - rank;
    least[i] = most[i] = static_cast<double>(i) * 0.5 - rank;
  }
  reducer->sum(sums);
  reducer->min(least);
  reducer->max(most);
  for (std::size_t i = 0; i < sums.size(); ++i) {
    EXPECT_EQ(sums[i], static_cast<std::int64_t>(i) * size - size * (size - 1) / 2);
    EXPECT_EQ(least[i], static_cast<double>(i) * 0.5 - (size - 1));
    EXPECT_EQ(most[i], static_cast<double>(i) * 0.5);
  }
}

// Whatever automatic chooses, the result is that of MPI, and every rank chose the same.
TEST(reducer_mpi, automatic_gives_the_same_bits) {
  const auto communicator = Communicator::world();
  const auto reducer = make_reducer(ReduceBackend::automatic, *communicator);
  for (const auto& backend : communicator->all_gather(reducer->backend())) EXPECT_EQ(backend, reducer->backend());
  std::vector<std::int64_t> sums(100'000);
  for (std::size_t i = 0; i < sums.size(); ++i)
    sums[i] = static_cast<std::int64_t>(i * 977) << (communicator->rank() % 20);
  auto expected = sums;
  communicator->all_reduce_sum(expected);
  reducer->sum(sums);
  EXPECT_EQ(sums, expected);
}

}  // namespace
}  // namespace spectrace
