#pragma once

#include <cstdint>

#include "spectrace/numerics/device.hpp"
#include "spectrace/plan/job.hpp"
#include "spectrace/plan/model_plan.hpp"

namespace spectrace {

/// The program itself: resident after start-up with libtorch, HDF5 and MPI in it. On no machine it took less than two
/// thirds of that.
inline constexpr std::int64_t kProgramBytes = std::int64_t{142} << 20;
inline constexpr std::int64_t kLeastProgramBytes = kProgramBytes * 2 / 3;

/// What one rank needs for a model at its peak, bytes, as far as it can be foreseen: `plan` and `inspect` show it, the
/// default limit and the run follow it. What surely does not fit is CertainNeed's.
struct MemoryNeed {
  std::int64_t libraries = 0;    ///< the program itself
  std::int64_t layer = 0;        ///< the largest layer's weights, and what is converted on the way
  std::int64_t workspace = 0;    ///< of the block on the largest batch, and of its statistics
  std::int64_t one_batch = 0;    ///< hidden states and record of the largest batch
  std::int64_t all_batches = 0;  ///< of every batch, were all under way at once
  std::int64_t unembedding = 0;  ///< blocks of rows and the triangle
  std::int64_t tensor = 0;       ///< the stored matrix that takes the most, and its spectrum
  std::int64_t collecting = 0;   ///< records, rows that wait to be written, sums
  std::int64_t sums = 0;         ///< exact ones, of the statistics of its prompts
  std::int64_t set_join = 0;     ///< of collecting: what makes a set's numbers of its prompts', at least

  /// The least that the model can be measured with.
  std::int64_t least() const;
};

/// Values by set and slot that statistics are kept of.
std::int64_t num_statistics(const ModelDescription& model, const ModelPlan& plan);

/// What the exact sums of models may take that a rank keeps while it works on this one.
std::int64_t sums_bytes_limit(const Job& job, const ModelDescription& model, const ModelPlan& plan,
                              std::int64_t limit_bytes);

/// What a collector may take to make a set's numbers of its prompts'.
std::int64_t set_join_bytes_limit(const Job& job, const ModelDescription& model, const ModelPlan& plan,
                                  std::int64_t limit_bytes);

/// Hidden states and record of a batch on its way through the layers.
std::int64_t bytes_under_way(const ModelDescription& model, const ModelPlan& plan, const BatchWork& batch,
                             ComputeType dtype);

/// Of the matrices that the layer analyses of the plan need of a layer, at most.
std::int64_t num_matrix_elements(const ModelDescription& model, const ModelPlan& plan);
/// What they are read as for their spectra: float64 where a layer holds what float32 does not.
ComputeType type_of_matrices(const ModelDescription& model, ComputeType dtype);

/// Where the job asks for a GPU, what is left to the host of it: pinned buffers, the next layer on its way, and what
/// spectra and Laplacians are taken of, side by side.
MemoryNeed memory_need(const ModelDescription& model, const ModelPlan& plan, const Job& job);

/// What a rank needs of another device than the host, bytes, beside what the host needs: a layer's weights, those of
/// the next one that comes meanwhile, and what is widened at once; hidden states of the largest batch, the workspace of
/// the block on it and of the statistics.
struct DeviceNeed {
  std::int64_t layer = 0, workspace = 0, one_batch = 0;
  std::int64_t least() const { return layer + workspace + one_batch; }
};
DeviceNeed device_memory_need(const ModelDescription& model, const ModelPlan& plan, ComputeType dtype,
                              const Device& device);
/// The device that `plan` plans for: it need not be there.
Device planned_device(const Job& job);
/// What layers may take that stay on the device.
std::int64_t resident_bytes_limit(const DeviceNeed& need, std::int64_t bytes_under_way, std::int64_t limit_bytes);

/// What a rank may use: the job's limit, else its share of 80 % of what the host and its control groups have.
std::int64_t memory_limit_bytes(const Job& job, std::int64_t host_bytes, int ranks_on_host);

/// What batches under way may take at once: what the limit leaves, at least one batch. Not more than what can be saved
/// in the seconds that a stop has.
std::int64_t hidden_bytes_limit(const Job& job, const ModelDescription& model, const ModelPlan& plan,
                                std::int64_t limit_bytes);

/// Layers whose spectra a rank takes side by side, so that all of its threads have work: a quarter of that on a matrix
/// is one thread's. One for up to seven threads, then one more for every four, as far as the limit has room; on the
/// host alone.
std::int64_t layers_in_flight(const Job& job, const ModelDescription& model, const ModelPlan& plan,
                              std::int64_t limit_bytes);
/// What so many take beyond the need of one.
std::int64_t in_flight_bytes(const Job& job, const ModelDescription& model, const ModelPlan& plan,
                             std::int64_t num_layers);

/// What stored matrices take whose spectra a rank takes side by side: as many as it has threads, the largest ones, as
/// far as the limit has room for more than one.
std::int64_t tensors_in_flight_bytes(const ModelPlan& plan, std::int64_t limit_bytes);

/// What layers may take that stay in memory because they are needed again: what the limit leaves beside all that the
/// work on one layer takes. 0: none stay.
std::int64_t resident_bytes_limit(const Job& job, const ModelDescription& model, const ModelPlan& plan,
                                  std::int64_t limit_bytes);

}  // namespace spectrace
