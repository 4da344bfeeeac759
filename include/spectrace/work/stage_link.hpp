#pragma once

#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "spectrace/comm/communicator.hpp"

namespace spectrace {

/// Messages between ranks that share a model's layers: the computing thread puts them in and takes them out, the thread
/// that speaks MPI carries them (carry). Those of one rank to another keep their order.
/// Whoever is faster waits: at most so many messages as may_wait says are on their way to a rank, and as many wait
/// there.
class StageLink {
 public:
  static constexpr std::size_t kLeastWaiting = 2;

  /// Of the computing thread, before others: from now on so many, not less than kLeastWaiting.
  void may_wait(std::size_t num_messages);

  /// Of the computing thread. Waits for a free place; false: a stop came first, and it was not sent.
  bool send(int rank, std::string bytes);
  /// Of the computing thread: the next message of the rank. Without `wait`, or at a stop, only if it is there.
  std::optional<std::string> receive(int rank, bool wait);
  /// Of the computing thread: waits until all that it has sent has left. What a rank that stops does not take any more
  /// is taken by its other thread.
  void flush();

  /// Of the thread that speaks MPI, again and again. True if something was moved or is about to leave.
  bool carry(Communicator& communicator);
  /// Nobody waits any more; what comes in is taken at once.
  void stop();

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopped_ = false;
  std::size_t most_waiting_ = kLeastWaiting;
  std::map<int, std::deque<std::string>> outgoing_;
  std::map<int, std::size_t> under_way_;  // given to MPI and not yet out
  std::map<int, std::deque<std::string>> arrived_;
};

}  // namespace spectrace
