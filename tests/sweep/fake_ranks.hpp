#pragma once

#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "spectrace/comm/communicator.hpp"
#include "spectrace/sweep/clock.hpp"

namespace spectrace {

/// How a run was ended at once.
struct Aborted {
  int exit_code = 0;
};

/// One rank's end of a run whose other ranks a test plays: what it sends is kept, what comes to it is put there.
class FakeCommunicator final : public Communicator {
 public:
  FakeCommunicator(int rank, int size) : rank_(rank), size_(size) {}

  struct Sent {
    int destination = 0, tag = 0;
    std::string bytes;
  };
  std::vector<Sent> sent;
  std::deque<Message> incoming;

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  int local_rank() const override { return rank_; }
  int local_size() const override { return size_; }
  void send(int destination, int tag, std::string bytes) override {
    sent.push_back({destination, tag, std::move(bytes)});
  }
  std::size_t num_unsent(int, int) override { return 0; }
  std::optional<Message> try_receive(int tag) override {
    for (auto message = incoming.begin(); message != incoming.end(); ++message)
      if (message->tag == tag) {
        Message taken = std::move(*message);
        incoming.erase(message);
        return taken;
      }
    return std::nullopt;
  }
  void abort(int exit_code) override { throw Aborted{exit_code}; }

  // Nothing that waits is part of a step.
  void barrier() override { throw Aborted{-1}; }
  void broadcast(std::string&, int) override { throw Aborted{-1}; }
  void broadcast(std::span<std::int64_t>, int) override { throw Aborted{-1}; }
  std::vector<std::string> all_gather(const std::string&) override { throw Aborted{-1}; }
  void all_reduce_sum(std::span<std::int64_t>) override { throw Aborted{-1}; }
  void all_reduce_min(std::span<double>) override { throw Aborted{-1}; }
  void all_reduce_max(std::span<double>) override { throw Aborted{-1}; }
  std::string receive(int, int) override { throw Aborted{-1}; }

 private:
  int rank_, size_;
};

/// Stands still until a test moves it.
struct FakeClock final : Clock {
  double now_s = 0;
  double elapsed_s() const override { return now_s; }
  double awake_s() const override { return now_s; }
};

}  // namespace spectrace
