#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <numeric>
#include <thread>

#include "spectrace/comm/communicator.hpp"

namespace spectrace {
namespace {

/// Parts of 64 bytes, so that a few hundred bytes are already cut.
constexpr std::size_t kPartBytes = 64;

class communicator_mpi : public testing::Test {
 protected:
  std::unique_ptr<Communicator> communicator_ = Communicator::world(kPartBytes);
  int rank_ = communicator_->rank();
  int size_ = communicator_->size();
};

/// Bytes that tell their source and place: a part that went astray shows.
std::string pattern(int rank, std::size_t size_bytes) {
  std::string bytes(size_bytes, '\0');
  for (std::size_t i = 0; i < size_bytes; ++i)
    bytes[i] = static_cast<char>((i * 31 + static_cast<std::size_t>(rank) * 7) % 251);
  return bytes;
}

/// Sizes on and beside every edge of a part.
const std::vector<std::size_t> kEdgeSizes = {0,
                                             1,
                                             kPartBytes - 1,
                                             kPartBytes,
                                             kPartBytes + 1,
                                             2 * kPartBytes - 1,
                                             2 * kPartBytes,
                                             2 * kPartBytes + 1,
                                             10 * kPartBytes + 3};

TEST_F(communicator_mpi, ranks_are_distinct_and_know_their_host) {
  ASSERT_LT(rank_, size_);
  EXPECT_EQ(communicator_->is_root(), rank_ == 0);
  EXPECT_LT(communicator_->local_rank(), communicator_->local_size());
  EXPECT_LE(communicator_->local_size(), size_);
  const char* launched = std::getenv("OMPI_COMM_WORLD_SIZE");
  if (launched != nullptr) {
    EXPECT_EQ(size_, std::atoi(launched));
  }
  const auto ranks = communicator_->all_gather(std::to_string(rank_));
  ASSERT_EQ(ranks.size(), static_cast<std::size_t>(size_));
  for (int rank = 0; rank < size_; ++rank) EXPECT_EQ(ranks[static_cast<std::size_t>(rank)], std::to_string(rank));
}

TEST_F(communicator_mpi, broadcast_text_of_every_size_from_every_root) {
  for (int root = 0; root < size_; ++root) {
    for (const std::size_t size_bytes : kEdgeSizes) {
      std::string bytes = rank_ == root ? pattern(root, size_bytes) : "something else, longer or shorter";
      communicator_->broadcast(bytes, root);
      EXPECT_EQ(bytes, pattern(root, size_bytes)) << "root " << root << ", " << size_bytes << " bytes";
    }
  }
}

TEST_F(communicator_mpi, broadcast_numbers_from_every_root) {
  for (int root = 0; root < size_; ++root) {
    for (const std::size_t count :
         {std::size_t{0}, kPartBytes / 8 - 1, kPartBytes / 8, kPartBytes / 8 + 1, std::size_t{100}}) {
      std::vector<std::int64_t> values(count, -1);
      if (rank_ == root) std::iota(values.begin(), values.end(), std::int64_t{root} << 40);
      communicator_->broadcast(std::span(values), root);
      for (std::size_t i = 0; i < count; ++i)
        ASSERT_EQ(values[i], (std::int64_t{root} << 40) + static_cast<std::int64_t>(i));
    }
  }
}

// Uneven texts: with the small parts the sum is above one part for most sizes, below for the first.
TEST_F(communicator_mpi, all_gather_uneven_texts) {
  for (const std::size_t step :
       {std::size_t{0}, std::size_t{1}, std::size_t{5}, kPartBytes - 1, kPartBytes, 3 * kPartBytes}) {
    const auto size_of = [&](int rank) { return step * static_cast<std::size_t>((rank + 2) % size_); };
    const auto texts = communicator_->all_gather(pattern(rank_, size_of(rank_)));
    ASSERT_EQ(texts.size(), static_cast<std::size_t>(size_));
    for (int rank = 0; rank < size_; ++rank)
      EXPECT_EQ(texts[static_cast<std::size_t>(rank)], pattern(rank, size_of(rank))) << "of rank " << rank;
  }
}

TEST_F(communicator_mpi, sums_wrap_nowhere_and_keep_their_places) {
  for (const std::size_t count :
       {std::size_t{0}, std::size_t{1}, kPartBytes / 8 - 1, kPartBytes / 8, kPartBytes / 8 + 1, std::size_t{1000}}) {
    std::vector<std::int64_t> values(count);
    for (std::size_t i = 0; i < count; ++i)
      values[i] = (std::int64_t{1} << 53) + static_cast<std::int64_t>(i) * (rank_ + 1);  // a double would round it
    communicator_->all_reduce_sum(values);
    const std::int64_t rank_sum = std::int64_t{size_} * (size_ + 1) / 2;
    for (std::size_t i = 0; i < count; ++i)
      ASSERT_EQ(values[i], (std::int64_t{size_} << 53) + static_cast<std::int64_t>(i) * rank_sum) << "at " << i;
  }
}

TEST_F(communicator_mpi, extremes_come_from_the_right_rank) {
  constexpr double inf = std::numeric_limits<double>::infinity();
  std::vector<double> least(100), most(100);
  for (std::size_t i = 0; i < 100; ++i)
    least[i] = most[i] = static_cast<double>((static_cast<int>(i) + rank_) % size_) + static_cast<double>(i);
  least[7] = rank_ == size_ - 1 ? -inf : inf;
  most[7] = rank_ == 0 ? inf : -inf;
  communicator_->all_reduce_min(least);
  communicator_->all_reduce_max(most);
  for (std::size_t i = 0; i < 100; ++i) {
    EXPECT_EQ(least[i], i == 7 ? -inf : static_cast<double>(i));
    EXPECT_EQ(most[i], i == 7 ? inf : static_cast<double>(i) + size_ - 1);
  }
}

// min(-0, +0) is either, whichever MPI compares first: the bits must not depend on that.
TEST_F(communicator_mpi, zeros_have_the_same_bits_for_any_order) {
  std::vector<double> values = {rank_ % 2 == 0 ? -0.0 : 0.0, rank_ % 2 == 0 ? 0.0 : -0.0, -0.0};
  auto most = values;
  communicator_->all_reduce_min(values);
  communicator_->all_reduce_max(most);
  for (const double value : values) EXPECT_FALSE(std::signbit(value));
  for (const double value : most) EXPECT_FALSE(std::signbit(value));
}

TEST_F(communicator_mpi, messages_go_round_without_a_receiver_waiting) {
  const int next = (rank_ + 1) % size_, previous = (rank_ + size_ - 1) % size_;
  for (const std::size_t size_bytes : kEdgeSizes) communicator_->send(next, 3, pattern(rank_, size_bytes));
  for (const std::size_t size_bytes : kEdgeSizes)
    EXPECT_EQ(communicator_->receive(previous, 3), pattern(previous, size_bytes)) << size_bytes << " bytes";
}

// 4 MB in parts of 1 MiB: beyond what MPI buffers by itself, so the sends stay open until the receivers come.
TEST_F(communicator_mpi, large_messages_wait_for_their_receiver) {
  const auto wide = Communicator::world(std::size_t{1} << 20);
  const int next = (rank_ + 1) % size_, previous = (rank_ + size_ - 1) % size_;
  const std::size_t size_bytes = 4'000'000;
  wide->send(next, 1, pattern(rank_, size_bytes));
  wide->send(next, 2, pattern(rank_ + 1, size_bytes));
  EXPECT_EQ(wide->receive(previous, 2), pattern(previous + 1, size_bytes));
  EXPECT_EQ(wide->receive(previous, 1), pattern(previous, size_bytes));
}

// Every rank sends to the root when it likes; long and short messages and two tags mixed.
TEST_F(communicator_mpi, try_receive_takes_whole_messages_from_anyone) {
  const auto size_of = [](int rank, std::size_t i) {
    return kEdgeSizes[(i + static_cast<std::size_t>(rank)) % kEdgeSizes.size()];
  };
  const std::size_t num_messages = kEdgeSizes.size();
  for (std::size_t i = 0; i < num_messages; ++i) communicator_->send(0, 5, pattern(rank_, size_of(rank_, i)));
  communicator_->send(0, 6, "the other tag");
  if (rank_ == 0) {
    std::vector<std::size_t> num_received(static_cast<std::size_t>(size_), 0);
    for (std::size_t left = num_messages * static_cast<std::size_t>(size_); left > 0;) {
      const auto message = communicator_->try_receive(5);
      if (!message) continue;
      EXPECT_EQ(message->tag, 5);
      auto& i = num_received.at(static_cast<std::size_t>(message->source));
      EXPECT_EQ(message->bytes, pattern(message->source, size_of(message->source, i))) << "message " << i;
      ++i;
      --left;
    }
    EXPECT_FALSE(communicator_->try_receive(5).has_value());
    for (int rank = 0; rank < size_; ++rank) EXPECT_EQ(communicator_->receive(rank, 6), "the other tag");
  }
  communicator_->barrier();
}

// A communicator may go while its last message is still on the way.
TEST_F(communicator_mpi, destructor_waits_for_a_late_receiver) {
  auto other = Communicator::world(std::size_t{1} << 20);
  const std::string bytes = pattern(rank_, 3'000'000);
  if (rank_ == size_ - 1 && size_ > 1) other->send(0, 9, bytes);
  if (rank_ == 0 && size_ > 1) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    EXPECT_EQ(other->receive(size_ - 1, 9), pattern(size_ - 1, 3'000'000));
  }
  other.reset();
}

TEST_F(communicator_mpi, barrier_holds_everyone_back) {
  // Clocks of one host are one clock; over several hosts there is nothing to compare.
  const auto now_ns = [] { return std::chrono::steady_clock::now().time_since_epoch().count(); };
  std::this_thread::sleep_for(std::chrono::milliseconds(20 * rank_));
  const auto entered = now_ns();
  communicator_->barrier();
  const auto left = now_ns();
  const bool is_one_host = communicator_->local_size() == size_;
  for (const auto& other : communicator_->all_gather(std::to_string(entered))) {
    EXPECT_TRUE(std::stoll(other) <= left || !is_one_host) << "left before another rank came";
  }
}

}  // namespace
}  // namespace spectrace
