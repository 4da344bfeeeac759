#pragma once

#include <optional>
#include <string>

namespace spectrace {

/// Asks a run to end early with everything finished kept: by SIGTERM, SIGINT, SIGUSR1 or SIGUSR2 (what Slurm and mpirun
/// send before they kill), or by a time limit. A second SIGINT or SIGTERM, a second later or more, ends the process at
/// once.
class StopRequest {
 public:
  /// Installs the signal handlers, for good: a signal that comes when the run is over and the process on its way out
  /// must not change its exit code. `max_hours` counts from now.
  explicit StopRequest(std::optional<double> max_hours);
  StopRequest(const StopRequest&) = delete;
  StopRequest& operator=(const StopRequest&) = delete;

  bool requested() const;
  /// "SIGTERM", "time limit": for the log. Empty if not requested.
  std::string reason() const;

 private:
  std::optional<double> deadline_s_;  // on the steady clock
};

}  // namespace spectrace
