#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>

#include "spectrace/checkpoint/tensor_store.hpp"
#include "spectrace/numerics/device.hpp"
#include "spectrace/plan/job.hpp"
#include "spectrace/results/output_folder.hpp"
#include "spectrace/work/stage_link.hpp"
#include "spectrace/work/sums_store.hpp"

namespace spectrace {

/// What a rank's work needs to know beside its assignment. No communicator: ranks meet only at the journal, and where
/// they share a model's layers, over the link; and their sums are added up.
struct RunContext {
  Job job;
  IoMode io = IoMode::automatic;
  bool fresh = false;
  int rank = 0;
  int num_ranks = 1;
  int num_threads = 1;
  std::int64_t memory_bytes = 0;  ///< that this rank may use
  Device device;                  ///< of the forward pass
  std::int64_t device_bytes = 0;  ///< of its memory that this rank may use; 0: it is the host's
  StageLink link;
  SumsStore sums;

  /// Set once; work ends at the next place where it can be gone on from.
  std::atomic<bool> stop{false};
  /// Work done, in the units' flops, since the run began. Read by the thread that speaks MPI.
  std::atomic<double> flops_done{0};
  /// Of all assignments: seconds of work, and bytes read from checkpoints. Read when the work is over.
  std::atomic<double> busy_s{0};
  std::atomic<std::uint64_t> bytes_read{0};

  void add_flops(double flops) {
    // Only the computing thread writes.
    flops_done.store(flops_done.load(std::memory_order_relaxed) + flops, std::memory_order_relaxed);
  }
};

}  // namespace spectrace
