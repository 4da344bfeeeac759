#include "spectrace/comm/reductions.hpp"

#include <gtest/gtest.h>

#include <vector>

#include "spectrace/core/error.hpp"

namespace spectrace {
namespace {

TEST(reductions, backends_are_parsed) {
  EXPECT_EQ(parse_reduce_backend("auto"), ReduceBackend::automatic);
  EXPECT_EQ(parse_reduce_backend("mpi"), ReduceBackend::mpi);
  EXPECT_EQ(parse_reduce_backend("nccl"), ReduceBackend::nccl);
  try {
    parse_reduce_backend("gloo");
    FAIL() << "accepted";
  } catch (const InputError& error) {
    EXPECT_EQ(error.kind(), ErrorKind::usage);
    EXPECT_NE(std::string(error.what()).find("auto, mpi, nccl"), std::string::npos) << error.what();
  }
}

TEST(reductions, of_one_rank_leave_what_it_has) {
  const auto communicator = Communicator::serial();
  const auto reductions = make_reductions(ReduceBackend::mpi, *communicator);
  EXPECT_STREQ(reductions->backend(), "nothing");
  std::vector<std::int64_t> sums = {1, 2, 3};
  std::vector<double> values = {1.5, -2};
  reductions->post_sum(sums, 0);
  reductions->post_min_everywhere(sums);
  reductions->post_min(values, 0);
  EXPECT_TRUE(reductions->is_done());
  EXPECT_EQ(sums, (std::vector<std::int64_t>{1, 2, 3}));
  EXPECT_EQ(values, (std::vector<double>{1.5, -2}));
}

// Either there is a GPU and NCCL gives what one rank has, or the error says what is missing and what to do.
TEST(reductions, nccl_works_or_says_what_is_missing) {
  const auto communicator = Communicator::serial();
  std::unique_ptr<Reductions> reductions;
  try {
    reductions = make_reductions(ReduceBackend::nccl, *communicator);
  } catch (const InputError& error) {
    EXPECT_EQ(error.kind(), ErrorKind::usage);
    const std::string expected = nccl_library_version() == "none" ? "no NCCL" : "rank 0 has no GPU";
    EXPECT_NE(error.why().find(expected), std::string::npos) << error.what();
    EXPECT_NE(error.suggestion().find("--reduce mpi"), std::string::npos) << error.what();
    EXPECT_STREQ(make_reductions(ReduceBackend::automatic, *communicator)->backend(), "nothing");
    return;
  }
  EXPECT_STREQ(reductions->backend(), "nccl");
  std::vector<std::int64_t> sums(Reductions::kMostValues);
  for (std::size_t i = 0; i < sums.size(); ++i) sums[i] = static_cast<std::int64_t>(i) << 30;
  const auto expected = sums;
  std::vector<double> values = {0.0, 2.5};
  reductions->post_sum(sums, 0);
  reductions->post_min(values, 0);
  while (!reductions->is_done()) continue;
  EXPECT_EQ(sums, expected);
  EXPECT_EQ(values, (std::vector<double>{0.0, 2.5}));
}

}  // namespace
}  // namespace spectrace
