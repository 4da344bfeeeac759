#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "spectrace/work/stage_link.hpp"

namespace spectrace {
namespace {

/// Small ones leave at once, large ones only when they are taken.
std::string message(int number) {
  return std::string(number % 3 == 0 ? 1 << 20 : 10, static_cast<char>('a' + number % 26)) + std::to_string(number);
}

/// Carries on the calling thread until `compute`, on another one, is done on every rank.
template <typename F>
void run(StageLink& link, Communicator& communicator, const F& compute) {
  std::atomic<bool> done = false;
  std::thread thread([&] {
    compute();
    done = true;
  });
  constexpr int kDone = 7;
  bool said = false;
  for (int num_done = 0; num_done < communicator.size();) {
    if (!link.carry(communicator)) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    if (done && !said)
      for (int rank = 0; rank < communicator.size(); ++rank) communicator.send(rank, kDone, "");
    said = done;
    while (communicator.try_receive(kDone)) ++num_done;
  }
  thread.join();
  communicator.barrier();
}

TEST(stage_link_mpi, everything_comes_in_order_through_all_ranks) {
  const auto communicator = Communicator::world();
  const int rank = communicator->rank(), last = communicator->size() - 1;
  StageLink link;
  run(link, *communicator, [&] {
    for (int i = 0; i < 20; ++i) {
      const std::string bytes = rank == 0 ? message(i) : *link.receive(rank - 1, true);
      EXPECT_EQ(bytes, message(i));
      if (rank < last) {
        EXPECT_TRUE(link.send(rank + 1, bytes));
      }
    }
    link.flush();
  });
}

TEST(stage_link_mpi, whoever_is_faster_waits) {
  const auto communicator = Communicator::world();
  if (communicator->size() < 2) GTEST_SKIP() << "one rank";
  StageLink link;
  std::atomic<int> num_sent = 0;
  run(link, *communicator, [&] {
    if (communicator->rank() == 0) {
      for (int i = 0; i < 9; ++i) {
        link.send(1, message(3 * i));
        ++num_sent;
      }
      link.flush();
    } else if (communicator->rank() == 1) {
      for (int i = 0; i < 9; ++i) EXPECT_EQ(*link.receive(0, true), message(3 * i));
    }
  });
  EXPECT_EQ(num_sent, communicator->rank() == 0 ? 9 : 0);
}

TEST(stage_link_mpi, at_a_stop_nobody_waits_and_nothing_stays_on_its_way) {
  const auto communicator = Communicator::world();
  if (communicator->size() < 2) GTEST_SKIP() << "one rank";
  StageLink link;
  run(link, *communicator, [&] {
    if (communicator->rank() == 0) {
      int num_sent = 0;
      std::thread stopper([&] {
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
        link.stop();
      });
      while (link.send(1, message(0))) ++num_sent;  // nobody takes them
      stopper.join();
      EXPECT_GE(num_sent, 1);
      EXPECT_LE(num_sent, 2 * static_cast<int>(StageLink::kLeastWaiting) + 1);
      link.flush();  // ends although the other never took them
    } else if (communicator->rank() == 1) {
      std::this_thread::sleep_for(std::chrono::milliseconds(200));
      link.stop();
      EXPECT_TRUE(link.receive(0, true).has_value());  // what is there
    }
  });
}

}  // namespace
}  // namespace spectrace
