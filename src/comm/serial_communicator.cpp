#include <algorithm>
#include <cstdlib>
#include <list>
#include <stdexcept>

#include "extremes.hpp"
#include "mpi_calls.hpp"
#include "spectrace/comm/communicator.hpp"

namespace spectrace {
namespace {

/// One rank: nothing to exchange, except what it sends to itself.
class SerialCommunicator final : public Communicator {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  int local_rank() const override { return 0; }
  int local_size() const override { return 1; }

  void barrier() override {}
  void broadcast(std::string&, int root) override { expect_self(root); }
  void broadcast(std::span<std::int64_t>, int root) override { expect_self(root); }
  std::vector<std::string> all_gather(const std::string& bytes) override { return {bytes}; }
  void all_reduce_sum(std::span<std::int64_t>) override {}
  void all_reduce_min(std::span<double> values) override { prepare_extremes(values); }
  void all_reduce_max(std::span<double> values) override { prepare_extremes(values); }

  void send(int destination, int tag, std::string bytes) override {
    expect_self(destination);
    messages_.push_back({0, tag, std::move(bytes)});
  }
  std::size_t num_unsent(int destination, int) override {
    expect_self(destination);
    return 0;
  }
  std::string receive(int source, int tag) override {
    expect_self(source);
    auto message = try_receive(tag);
    if (!message) throw std::logic_error("rank 0 waits for a message that it has not sent itself");
    return std::move(message->bytes);
  }
  std::optional<Message> try_receive(int tag) override {
    const auto found = std::find_if(messages_.begin(), messages_.end(), [&](const Message& m) { return m.tag == tag; });
    if (found == messages_.end()) return std::nullopt;
    Message message = std::move(*found);
    messages_.erase(found);
    return message;
  }

  void abort(int exit_code) override { mpi::abort_all(exit_code); }

 private:
  static void expect_self(int rank) {
    if (rank != 0) throw std::logic_error("there is no rank " + std::to_string(rank) + " in a run of one");
  }
  std::list<Message> messages_;
};

}  // namespace

std::unique_ptr<Communicator> Communicator::serial() { return std::make_unique<SerialCommunicator>(); }

}  // namespace spectrace
