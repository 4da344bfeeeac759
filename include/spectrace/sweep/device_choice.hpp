#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "spectrace/comm/communicator.hpp"
#include "spectrace/numerics/device.hpp"
#include "spectrace/plan/job.hpp"

namespace spectrace {

/// What a rank has: the kind of its GPU, or what it lacks.
struct DeviceOfRank {
  std::string host;
  CudaObstacle obstacle;
  std::string kind, uuid;
};

/// @throws InputError (usage) that names a rank without a GPU and what it lacks, or ranks whose GPUs differ: their
/// results would not have the same bits.
void expect_one_kind(const std::vector<DeviceOfRank>& ranks);

/// Ranks that have the GPU of this one, itself included.
int ranks_on_device_of(std::size_t rank, const std::vector<DeviceOfRank>& ranks);

struct ChosenDevice {
  Device device;
  std::int64_t bytes = 0;  ///< of a GPU's memory that this rank may use
};

/// The device that all ranks run the forward pass on: GPUs by local rank. `auto` is the host as long as CUDA was never
/// run (kCudaWasRun); then it is the GPUs where every rank has one of one kind. Collective.
/// @throws InputError (usage), the same on all ranks, if GPUs are asked for and cannot be had.
ChosenDevice choose_device(DeviceChoice choice, Communicator& communicator);

/// @throws InputError (usage) if this machine lacks what the choice asks for.
void expect_device(DeviceChoice choice);

}  // namespace spectrace
