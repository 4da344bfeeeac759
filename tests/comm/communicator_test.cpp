#include "spectrace/comm/communicator.hpp"

#include <gtest/gtest.h>

#include <cctype>
#include <cmath>
#include <cstdlib>
#include <stdexcept>

namespace spectrace {
namespace {

TEST(communicator, serial_is_a_world_of_one) {
  const auto communicator = Communicator::serial();
  EXPECT_EQ(communicator->rank(), 0);
  EXPECT_EQ(communicator->size(), 1);
  EXPECT_EQ(communicator->local_rank(), 0);
  EXPECT_EQ(communicator->local_size(), 1);
  communicator->barrier();
  std::string text = "kept";
  communicator->broadcast(text, 0);
  EXPECT_EQ(text, "kept");
  EXPECT_EQ(communicator->all_gather("mine"), std::vector<std::string>{"mine"});
  std::vector<std::int64_t> sums = {1, -2};
  communicator->all_reduce_sum(sums);
  EXPECT_EQ(sums, (std::vector<std::int64_t>{1, -2}));
}

// As over MPI: a run of one rank must have the bits of a run of many.
TEST(communicator, serial_extremes_have_no_negative_zero) {
  const auto communicator = Communicator::serial();
  std::vector<double> least = {-0.0, 3}, most = {-0.0, -3};
  communicator->all_reduce_min(least);
  communicator->all_reduce_max(most);
  EXPECT_FALSE(std::signbit(least[0]));
  EXPECT_FALSE(std::signbit(most[0]));
  EXPECT_EQ(least[1], 3);
  EXPECT_EQ(most[1], -3);
}

TEST(communicator, serial_messages_to_itself_keep_order_and_tag) {
  const auto communicator = Communicator::serial();
  communicator->send(0, 1, "first");
  communicator->send(0, 2, "other");
  communicator->send(0, 1, "second");
  EXPECT_EQ(communicator->receive(0, 1), "first");
  const auto message = communicator->try_receive(2);
  ASSERT_TRUE(message.has_value());
  EXPECT_EQ(message->bytes, "other");
  EXPECT_EQ(message->tag, 2);
  EXPECT_EQ(communicator->receive(0, 1), "second");
  EXPECT_FALSE(communicator->try_receive(1).has_value());
  EXPECT_THROW(communicator->receive(0, 1), std::logic_error);
  EXPECT_THROW(communicator->send(1, 1, "to nobody"), std::logic_error);
}

TEST(communicator, serial_abort_ends_with_the_exit_code) {
  EXPECT_EXIT(Communicator::serial()->abort(75), testing::ExitedWithCode(75), "");
}

TEST(communicator, world_without_mpi_is_serial) {
  const auto communicator = Communicator::world();
  EXPECT_EQ(communicator->size(), 1);
}

TEST(communicator, library_version_is_name_and_number) {
  const std::string version = mpi_library_version();
  EXPECT_EQ(version.find('\n'), std::string::npos);
  EXPECT_EQ(version.find(','), std::string::npos);
  ASSERT_FALSE(version.empty());
  EXPECT_TRUE(std::isdigit(static_cast<unsigned char>(version.back()))) << version;
}

// The child starts MPI as a world of one: any launcher's variable that this MPI itself ignores will do.
void start_mpi_and(void (*what)()) {
  setenv("FLUX_TASK_RANK", "0", 1);
  int argc = 0;
  char** argv = nullptr;
  const MpiScope scope(argc, argv);
  what();
}

TEST(communicator, mpi_scope_aborts_while_an_exception_unwinds) {
  EXPECT_EXIT(
      {
        try {
          start_mpi_and([] { throw std::runtime_error("one rank fails"); });
        } catch (const std::runtime_error&) {
          std::_Exit(0);  // never reached: the scope ends the process first
        }
      },
      testing::ExitedWithCode(3), "");
}

TEST(communicator, mpi_scope_ends_quietly_without_an_exception) {
  EXPECT_EXIT(
      {
        start_mpi_and([] { Communicator::world()->barrier(); });
        std::_Exit(0);
      },
      testing::ExitedWithCode(0), "");
}

TEST(communicator, mpi_error_names_rank_and_call) {
  EXPECT_EXIT(start_mpi_and([] { Communicator::world()->send(7, 1, "no such rank"); }), testing::ExitedWithCode(3),
              "rank 0 .*MPI_Isend failed .*MPI_ERR_RANK");
}

}  // namespace
}  // namespace spectrace
