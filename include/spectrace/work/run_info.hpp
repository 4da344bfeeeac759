#pragma once

#include <string>
#include <vector>

#include "spectrace/core/json.hpp"
#include "spectrace/core/stage_times.hpp"
#include "spectrace/numerics/device.hpp"

namespace spectrace {

/// A rank's part of <model>.run.json: host, rank, threads, Slurm ids, seconds, flops and bytes of each stage, peak
/// memory.
struct RankReport {
  bool stopped = false;
  double compute_s = 0;
  std::uint64_t bytes_read = 0;
  std::size_t num_units = 0;
  StageTimes stages;

  /// With what the process itself knows: host, pid, peak memory.
  std::string to_json(int rank, int num_threads, const Device& device) const;
};

/// Now, as "2026-11-25T17:12:03Z".
std::string utc_time();

/// SLURM_JOB_ID and its like, as far as they are set.
Json slurm_ids();

/// Versions of the program and of the libraries it runs with.
Json versions();

}  // namespace spectrace
