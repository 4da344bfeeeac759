#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>

#include "spectrace/results/batch_sums.hpp"

namespace spectrace {

/// A model's sums over the ranks, and what it took to have them.
struct ReducedSums {
  BatchSums sums;
  std::string backend;          ///< "mpi", "nccl"
  std::uint64_t num_bytes = 0;  ///< that each rank gave
  double seconds = 0;
};

/// A rank's sums of the models that it has worked on, between its computing thread, which adds batches to them, and the
/// thread that speaks MPI, which adds them up over the ranks when a model's work is done.
class SumsStore {
 public:
  /// Of the computing thread: `add` gets the model's sums, which begin empty. False, and nothing happens, where these
  /// would take more than `most_bytes` together with those of other models: the collector sums such batches from the
  /// journal.
  bool add(std::size_t model, const SumsShape& shape, std::int64_t most_bytes,
           const std::function<void(BatchSums&)>& add);
  /// Of the computing thread that collects the model: waits for the sums of all ranks.
  ReducedSums wait_for(std::size_t model);

  /// Of the thread that speaks MPI: this rank's share of the model, if it has one. Nobody adds to the model meanwhile.
  std::optional<BatchSums> take(std::size_t model);
  /// Of the thread that speaks MPI: what the reduction came to.
  void deliver(std::size_t model, ReducedSums sums);

 private:
  std::mutex mutex_;
  std::condition_variable delivered_;
  std::map<std::size_t, BatchSums> own_;
  std::map<std::size_t, ReducedSums> of_all_;
  std::map<std::size_t, std::int64_t> bytes_;  // of own_
};

}  // namespace spectrace
