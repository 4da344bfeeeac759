#include "spectrace/work/stage_link.hpp"

#include <algorithm>

namespace spectrace {
namespace {
constexpr int kTag = 303;
}

void StageLink::may_wait(std::size_t num_messages) {
  const std::lock_guard lock(mutex_);
  most_waiting_ = std::max(num_messages, kLeastWaiting);
}

bool StageLink::send(int rank, std::string bytes) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return stopped_ || outgoing_[rank].size() + under_way_[rank] < most_waiting_; });
  if (stopped_) return false;
  outgoing_[rank].push_back(std::move(bytes));
  return true;
}

std::optional<std::string> StageLink::receive(int rank, bool wait) {
  std::unique_lock lock(mutex_);
  auto& queue = arrived_[rank];
  if (wait) changed_.wait(lock, [&] { return stopped_ || !queue.empty(); });
  if (queue.empty()) return std::nullopt;
  std::string bytes = std::move(queue.front());
  queue.pop_front();
  return bytes;
}

void StageLink::flush() {
  std::unique_lock lock(mutex_);
  const auto is_out = [&] {
    for (const auto& [rank, queue] : outgoing_)
      if (!queue.empty()) return false;
    for (const auto& [rank, count] : under_way_)
      if (count > 0) return false;
    return true;
  };
  changed_.wait(lock, is_out);
}

bool StageLink::carry(Communicator& communicator) {
  const std::lock_guard lock(mutex_);
  bool moved = false;
  for (auto& [rank, queue] : outgoing_) {
    moved |= !queue.empty();
    for (; !queue.empty(); queue.pop_front()) communicator.send(rank, kTag, std::move(queue.front()));
    std::size_t& count = under_way_[rank];
    const std::size_t before = count;
    count = communicator.num_unsent(rank, kTag);
    moved |= count > 0 || count != before;
  }
  // What is not taken from MPI stays with the sender, who waits then.
  std::size_t waiting = 0;
  for (const auto& [rank, queue] : arrived_) waiting += queue.size();
  while (stopped_ || waiting < most_waiting_) {
    auto message = communicator.try_receive(kTag);
    if (!message) break;
    arrived_[message->source].push_back(std::move(message->bytes));
    ++waiting;
    moved = true;
  }
  if (moved) changed_.notify_all();
  return moved;
}

void StageLink::stop() {
  const std::lock_guard lock(mutex_);
  stopped_ = true;
  changed_.notify_all();
}

}  // namespace spectrace
