#pragma once

#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>

namespace spectrace {

/// Ends the process where a step takes too long that cannot be interrupted and asks nobody: MPI's start and end, and
/// what all ranks do together. Whoever started the ranks then ends the others.
class TimeLimit {
 public:
  TimeLimit() = default;
  ~TimeLimit();
  TimeLimit(const TimeLimit&) = delete;
  TimeLimit& operator=(const TimeLimit&) = delete;

  /// From now on the process has so many seconds, not counting those in which it was suspended; then it says `message`
  /// and leaves with `exit_code`. Takes the place of the limit before. If the system gives no thread to watch it, a
  /// warning, and there is no limit.
  void begin(double seconds, std::string message, int exit_code);
  /// The step is over.
  void end();

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool is_over_ = true;
  std::thread watcher_;
};

}  // namespace spectrace
