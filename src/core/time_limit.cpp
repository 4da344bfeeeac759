#include "spectrace/core/time_limit.hpp"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <utility>

#include "spectrace/core/error.hpp"
#include "spectrace/core/log.hpp"
#include "spectrace/core/parallel.hpp"

namespace spectrace {

TimeLimit::~TimeLimit() { end(); }

void TimeLimit::begin(double seconds, std::string message, int exit_code) {
  end();
  is_over_ = false;
  try {
    watcher_ = start_thread([this, seconds, message = std::move(message), exit_code] {
      std::unique_lock lock(mutex_);
      // Second by second: of a time in which the whole job was suspended only one counts.
      for (double left = seconds; left > 0; left -= 1.0)
        if (changed_.wait_for(lock, std::chrono::duration<double>(std::min(left, 1.0)), [this] { return is_over_; }))
          return;
      log_error("{}", message);
      flush_log();
      std::_Exit(exit_code);  // nothing of MPI may be waited for
    });
  } catch (const ThreadError& error) {
    // What needs its threads says so itself; at the end of a run the work is done without.
    log_warning("cannot start a thread ({}): nothing ends this run if other ranks do not answer now", error.why());
  }
}

void TimeLimit::end() {
  {
    const std::lock_guard lock(mutex_);
    is_over_ = true;
  }
  changed_.notify_all();
  if (watcher_.joinable()) watcher_.join();
}

}  // namespace spectrace
