#include <gtest/gtest.h>

#include <limits>
#include <vector>

#include "spectrace/comm/reductions.hpp"

namespace spectrace {
namespace {

TEST(reductions_mpi, add_and_compare_over_ranks) {
  const auto communicator = Communicator::world();
  const auto reductions = make_reductions(ReduceBackend::mpi, *communicator);
  EXPECT_STREQ(reductions->backend(), "mpi");
  const int rank = communicator->rank(), size = communicator->size();
  // To each rank in turn, many under way at once, of other lengths.
  for (int root = 0; root < size; ++root) {
    const auto count = static_cast<std::size_t>(50 + root);
    std::vector<std::int64_t> sums(count), least(count);
    std::vector<double> least_values(count);
    for (std::size_t i = 0; i < count; ++i) {
      sums[i] = (static_cast<std::int64_t>(i) << 40) - rank;
      least[i] = static_cast<std::int64_t>(i) * (rank - 1);
      least_values[i] = i == 0 ? std::numeric_limits<double>::infinity() : static_cast<double>(i) * 0.5 - rank;
    }
    reductions->post_sum(sums, root);
    reductions->post_min(least_values, root);
    reductions->post_min_everywhere(least);
    while (!reductions->is_done()) continue;
    for (std::size_t i = 0; i < count; ++i) {
      EXPECT_EQ(least[i], -static_cast<std::int64_t>(i));
      if (rank != root) continue;
      EXPECT_EQ(sums[i], (static_cast<std::int64_t>(i) << 40) * size - size * (size - 1) / 2);
      if (i > 0) {
        EXPECT_EQ(least_values[i], static_cast<double>(i) * 0.5 - (size - 1));
      }
    }
    if (rank == root) {
      EXPECT_EQ(least_values[0], std::numeric_limits<double>::infinity());
    }
  }
}

// A rank that comes late keeps nobody from asking, and messages go on meanwhile.
TEST(reductions_mpi, never_wait) {
  const auto communicator = Communicator::world();
  const auto reductions = make_reductions(ReduceBackend::mpi, *communicator);
  std::vector<std::int64_t> ones(Reductions::kMostValues, 1);
  const int last = communicator->size() - 1;
  if (communicator->rank() != last || last == 0) reductions->post_sum(ones, 0);
  if (last > 0) {
    if (communicator->rank() == 0) {
      EXPECT_FALSE(reductions->is_done());
      communicator->send(last, 7, "now");
    }
    if (communicator->rank() == last) {
      EXPECT_EQ(communicator->receive(0, 7), "now");
      reductions->post_sum(ones, 0);
    }
  }
  while (!reductions->is_done()) continue;
  if (communicator->rank() == 0) {
    EXPECT_EQ(ones, std::vector<std::int64_t>(Reductions::kMostValues, communicator->size()));
  }
}

// Whatever automatic chooses, every rank chose the same.
TEST(reductions_mpi, automatic_is_the_same_everywhere) {
  const auto communicator = Communicator::world();
  const auto reductions = make_reductions(ReduceBackend::automatic, *communicator);
  for (const auto& backend : communicator->all_gather(reductions->backend())) EXPECT_EQ(backend, reductions->backend());
}

}  // namespace
}  // namespace spectrace
