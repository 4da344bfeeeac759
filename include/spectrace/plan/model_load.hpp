#pragma once

#include <cstdint>
#include <vector>

#include "spectrace/model/description.hpp"
#include "spectrace/plan/machine_profile.hpp"
#include "spectrace/plan/model_plan.hpp"
#include "spectrace/plan/open_model.hpp"

namespace spectrace {

/// A model's work in numbers: what planning needs to know of it, for any number of ranks.
struct ModelLoad {
  std::vector<Unit> units;           ///< without keys and prompts
  std::vector<double> layer_costs;   ///< of each layer, as stages share them out
  std::vector<double> layer_bytes;   ///< of each layer, whole, as stored
  std::vector<double> layer_memory;  ///< of each layer, bytes in the compute type
  double matrix_share = 1;           ///< of a layer: the matrices that layer analyses need
  double unembedding_bytes = 0;      ///< of all its parts
  int num_unembedding_parts = 1;
  std::int64_t tensors_in_flight_bytes = 0;   ///< of stored matrices whose spectra are taken side by side
  std::int64_t hidden_bytes_limit = 0;        ///< of batches under way, as the run has it; 0: none
  std::int64_t in_flight_bytes = 0;           ///< of layers whose spectra are taken beside another's
  std::int64_t resident_bytes_limit = 0;      ///< of layers that may stay in memory, as the run has it
  std::vector<std::int64_t> bytes_under_way;  ///< of each unit: hidden states and record of a batch
  double values_flops = 0;                    ///< of each layer, once a round: the singular values that prompts need
  double collect_bytes = 0;                   ///< records that become the file: of prompts those with rows in it
  double sums_bytes = 0;                      ///< of statistics, as each rank gives them to be added up
  double join_flops = 0;                      ///< of the unembedding's parts and of sets as wholes, by the collector
  int stages = 1;                             ///< ranks that share the layers
  WorkRates rates;                            ///< of a rank
};

/// `limit_bytes`: what a rank may use. `stages` stays 1.
ModelLoad model_load(const OpenModel& model, const ModelPlan& plan, const Job& job, std::int64_t limit_bytes,
                     const WorkRates& rates);

/// Layers [first, last) of a stage; empty where there are more stages than layers.
struct LayerRange {
  std::int64_t first = 0, last = 0;
  std::int64_t size() const { return last - first; }
};

/// Cuts the layers into consecutive ranges of about the same cost, one for each of the stages.
std::vector<LayerRange> stage_layers(const std::vector<double>& layer_costs, int num_stages);
/// The cost of each layer: its number of parameters, and of the last one what comes behind it for its prompts.
std::vector<double> layer_costs(const ModelDescription& model, const ModelPlan& plan);

/// Seconds of its ranks that a unit takes of a group of so many. A part of the unembedding is one rank's; where there
/// are fewer parts than ranks, the others wait.
double group_seconds(const ModelLoad& load, const Unit& unit, int stages, double read_bytes_per_s);

/// Batches of prompts among units.
struct BatchTotals {
  std::int64_t num_batches = 0, num_tokens = 0;
  void add(const Unit& unit);
  /// How many of them go through a block together (tokens_together), on average; at least 1.
  std::int64_t together() const;
};
BatchTotals batch_totals(const std::vector<Unit>& units);
BatchTotals batch_totals(const std::vector<Unit>& units, const std::vector<std::size_t>& chosen);

/// Batches that go through a stage's layers together. Where all of them stay in memory, as few as keep the threads
/// busy: the next stage need not wait. Else so many that reading the layers again and again is worth it, and the
/// pipeline still fills.
std::int64_t batches_a_round(const BatchTotals& batches, int num_stages, bool layers_stay);

/// How many ranks shall share the model's layers, of `num_ranks` that work on it while `num_ranks_in_all` use the file
/// system: the fewest whose time is within 5 % of the best. One rank reads everything; ranks of a group read a part of
/// it, but wait until their pipeline is full.
int choose_stages(const ModelLoad& load, int num_ranks, int num_ranks_in_all, const MachineProfile& profile);
/// As the job says, or chosen for a sweep of so many models, whose ranks share them evenly.
int stages_of(const Job& job, const ModelLoad& load, std::size_t num_models, int num_ranks,
              const MachineProfile& profile);

}  // namespace spectrace
