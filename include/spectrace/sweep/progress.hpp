#pragma once

#include <cstddef>
#include <filesystem>
#include <string>

#include "spectrace/core/stopwatch.hpp"

namespace spectrace {

/// Where a sweep stands.
struct SweepState {
  std::string state = "running";  ///< "running", "stopping", "stopped", "done", "done with errors", "failed"
  std::size_t num_models = 0, num_opened = 0, num_finished = 0;
  double known_flops = 0;    ///< of all models opened so far, journalled work included
  double done_flops = 0;     ///< of these
  double earlier_flops = 0;  ///< of these, by earlier starts
  int num_ranks = 1, num_busy = 0;

  /// Of the whole sweep; models that nobody has opened yet count as the mean of the others.
  double fraction() const;
  /// NaN as long as nothing was done.
  double seconds_to_go(double elapsed_s) const;
};

/// Shows it: a bar on a terminal, a line every 30 seconds elsewhere, and progress.json for pollers, at least every 5
/// seconds: its `updated` is the run's heartbeat. Never ends a run: a progress.json that cannot be written is a
/// warning.
class ProgressDisplay {
 public:
  explicit ProgressDisplay(std::filesystem::path json_path);
  ~ProgressDisplay();

  /// Often: shows what is due.
  void update(const SweepState& state);
  /// Now, whatever is due.
  void write(const SweepState& state);
  void clear_line();

 private:
  void show(const SweepState& state);

  std::filesystem::path json_path_;
  bool terminal_ = false, line_shown_ = false, warned_ = false;
  Stopwatch run_watch_, shown_watch_, json_watch_;
};

}  // namespace spectrace
