#include "spectrace/comm/reducer.hpp"

#include <gtest/gtest.h>

#include <vector>

#include "spectrace/core/error.hpp"

namespace spectrace {
namespace {

TEST(reducer, backends_are_parsed) {
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

TEST(reducer, serial_reduction_leaves_values) {
  const auto communicator = Communicator::serial();
  const auto reducer = make_reducer(ReduceBackend::mpi, *communicator);
  std::vector<std::int64_t> sums = {1, 2, 3};
  std::vector<double> values = {1.5, -2};
  reducer->sum(sums);
  reducer->min(values);
  reducer->max(values);
  EXPECT_EQ(sums, (std::vector<std::int64_t>{1, 2, 3}));
  EXPECT_EQ(values, (std::vector<double>{1.5, -2}));
}

// Either there is a GPU and NCCL gives what MPI gives, or the error says what is missing and what to do.
TEST(reducer, nccl_works_or_says_what_is_missing) {
  const auto communicator = Communicator::serial();
  std::unique_ptr<Reducer> reducer;
  try {
    reducer = make_reducer(ReduceBackend::nccl, *communicator);
  } catch (const InputError& error) {
    EXPECT_EQ(error.kind(), ErrorKind::usage);
    const std::string expected = nccl_library_version() == "none" ? "no NCCL" : "rank 0 has no GPU";
    EXPECT_NE(error.why().find(expected), std::string::npos) << error.what();
    EXPECT_NE(error.suggestion().find("--reduce mpi"), std::string::npos) << error.what();
    EXPECT_STREQ(make_reducer(ReduceBackend::automatic, *communicator)->backend(), "mpi");
    return;
  }
  EXPECT_STREQ(reducer->backend(), "nccl");
  std::vector<std::int64_t> sums(3'000'000);
  for (std::size_t i = 0; i < sums.size(); ++i) sums[i] = static_cast<std::int64_t>(i) << 30;
  const auto expected = sums;
  reducer->sum(sums);
  EXPECT_EQ(sums, expected);
  std::vector<double> values = {-0.0, 2.5};
  reducer->min(values);
  EXPECT_EQ(values, (std::vector<double>{0.0, 2.5}));
}

}  // namespace
}  // namespace spectrace
