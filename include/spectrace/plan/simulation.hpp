#pragma once

#include <cstdint>
#include <vector>

#include "spectrace/model/description.hpp"
#include "spectrace/plan/model_plan.hpp"
#include "spectrace/plan/scheduler.hpp"

namespace spectrace {

/// How fast a rank is.
struct MachineProfile {
  double prompt_flops_per_s = 4e10;       ///< matrix products and statistics of the forward pass
  double spectra_flops_per_s = 1.2e10;    ///< singular values of a layer's matrices and heads
  double unembedding_flops_per_s = 2e10;  ///< of the unembedding
  double read_bytes_per_s = 1e9;          ///< a rank alone
  double file_system_bytes_per_s = 2e10;  ///< all ranks together
  double open_s = 0.2, collect_s = 0.5;   ///< a model
};

/// A model's work, as the simulation needs it.
struct ModelLoad {
  std::vector<Unit> units;          ///< their `prompts` are not needed
  std::vector<double> layer_bytes;  ///< of each layer, whole, as stored
  double attention_share = 1;       ///< of a layer: its attention matrices
  double unembedding_bytes = 0;
  std::int64_t hidden_bytes_limit = 0;        ///< of batches under way, as the run has it; 0: none
  std::vector<std::int64_t> bytes_under_way;  ///< of each unit: hidden states and record of a batch
};

struct RankLoad {
  std::size_t num_units = 0, num_layers_read = 0;
  std::int64_t num_tokens = 0;
  double flops = 0, bytes = 0, busy_s = 0;
};

struct SimulatedSweep {
  double makespan_s = 0;
  double efficiency = 1;                                     ///< busy time over ranks times makespan
  std::vector<RankLoad> ranks;                               ///< in total
  std::vector<std::vector<RankLoad>> of_models;              // [model][rank]
  std::vector<std::vector<std::vector<std::size_t>>> units;  // [model][rank]
};

/// Runs the sweep in simulated time with the scheduler that the run has.
/// `with_details`: of_models and units too.
SimulatedSweep simulate_sweep(const std::vector<ModelLoad>& models, int num_ranks, const MachineProfile& profile,
                              bool with_details = false);

/// The most ranks (1, 2, 3, 4, 6, 8, 12, …) that still work at the given efficiency.
int sensible_number_of_ranks(const std::vector<ModelLoad>& models, const MachineProfile& profile,
                             double efficiency = 0.9);

}  // namespace spectrace
