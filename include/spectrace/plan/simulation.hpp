#pragma once

#include <cstdint>
#include <vector>

#include "spectrace/plan/machine_profile.hpp"
#include "spectrace/plan/memory.hpp"
#include "spectrace/plan/model_load.hpp"
#include "spectrace/plan/scheduler.hpp"

namespace spectrace {

struct RankLoad {
  std::size_t num_units = 0, num_layers_read = 0;
  std::int64_t num_tokens = 0;
  double flops = 0, bytes = 0, busy_s = 0;
  double resident_bytes = 0;   ///< of layers that stay in memory, at most
  double under_way_bytes = 0;  ///< of the batches of its largest share
};

struct SimulatedSweep {
  double makespan_s = 0;
  double efficiency = 1;                                     ///< busy time over ranks times makespan
  std::vector<RankLoad> ranks;                               ///< in total
  std::vector<std::vector<RankLoad>> of_models;              // [model][rank]
  std::vector<std::vector<std::vector<std::size_t>>> units;  // [model][rank]; a group's are with its first rank
};

/// Runs the sweep in simulated time with the scheduler that the run has.
/// `with_details`: of_models and units too.
SimulatedSweep simulate_sweep(const std::vector<ModelLoad>& models, int num_ranks, const MachineProfile& profile,
                              bool with_details = false);

/// Bytes that a rank has at its peak while it works on the model, within the limit.
double peak_bytes(const MemoryNeed& need, const ModelLoad& load, const RankLoad& rank);

/// The most ranks (1, 2, 3, 4, 6, 8, 12, …) that still work at the given efficiency.
int sensible_number_of_ranks(const std::vector<ModelLoad>& models, const MachineProfile& profile,
                             double efficiency = 0.9);

}  // namespace spectrace
