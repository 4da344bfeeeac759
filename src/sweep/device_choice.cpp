#include "spectrace/sweep/device_choice.hpp"

#include <algorithm>

#include "spectrace/comm/launch.hpp"
#include "spectrace/core/error.hpp"
#include "spectrace/core/json.hpp"
#include "spectrace/core/log.hpp"

namespace spectrace {
namespace {

Device device_of(const Communicator& communicator) {
  return Device::cuda(communicator.local_rank() % num_cuda_devices());
}

std::string mine(const Communicator& communicator) {
  const CudaObstacle obstacle = find_cuda_obstacle();
  Json json = {
      {"host", host_name()}, {"problem", obstacle.problem}, {"why", obstacle.why}, {"cure", obstacle.suggestion}};
  if (obstacle.none()) {
    const Device device = device_of(communicator);
    json["kind"] = device.kind();
    json["uuid"] = device.facts().value("uuid", "");
  }
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

DeviceOfRank parse(const std::string& text) {
  const Json json = Json::parse(text);
  const auto field = [&](const char* name) { return json.value(name, std::string()); };
  return {field("host"), {field("problem"), field("why"), field("cure")}, field("kind"), field("uuid")};
}

}  // namespace

void expect_one_kind(const std::vector<DeviceOfRank>& ranks) {
  for (std::size_t rank = 0; rank < ranks.size(); ++rank) {
    const CudaObstacle& obstacle = ranks[rank].obstacle;
    if (obstacle.none()) continue;
    const std::string where =
        ranks.size() == 1 ? "" : " (rank " + std::to_string(rank) + " on " + ranks[rank].host + ")";
    throw InputError(ErrorKind::usage, obstacle.problem + where, obstacle.why, obstacle.suggestion);
  }
  for (std::size_t rank = 1; rank < ranks.size(); ++rank)
    if (ranks[rank].kind != ranks[0].kind)
      throw InputError(ErrorKind::usage, "device cuda: the ranks' GPUs are of different kinds",
                       "rank 0 on " + ranks[0].host + ": " + ranks[0].kind + "; rank " + std::to_string(rank) + " on " +
                           ranks[rank].host + ": " + ranks[rank].kind,
                       "Their results would not have the same bits: ask for nodes of one kind, or use --device cpu.");
}

int ranks_on_device_of(std::size_t rank, const std::vector<DeviceOfRank>& ranks) {
  return static_cast<int>(std::count_if(ranks.begin(), ranks.end(), [&](const DeviceOfRank& other) {
    return other.host == ranks[rank].host && other.uuid == ranks[rank].uuid;
  }));
}

ChosenDevice choose_device(DeviceChoice choice, Communicator& communicator) {
  if (choice == DeviceChoice::cpu || (choice == DeviceChoice::automatic && !kCudaWasRun)) return {};
  std::vector<DeviceOfRank> ranks;
  for (const auto& text : communicator.all_gather(mine(communicator))) ranks.push_back(parse(text));
  try {
    expect_one_kind(ranks);
  } catch (const InputError&) {
    if (choice == DeviceChoice::automatic) return {};
    throw;
  }
  const Device device = device_of(communicator);
  const int sharing = ranks_on_device_of(static_cast<std::size_t>(communicator.rank()), ranks);
  if (communicator.is_root()) {
    if (!kCudaWasRun)
      log_warning(
          "results of this version were never compared on a GPU: hold some against --device cpu first (manual, GPUs)");
    if (sharing > 1) log_warning("{} ranks share a GPU: one rank a GPU, with many threads, is faster", sharing);
  }
  const std::int64_t free_bytes = device.free_bytes();
  communicator.barrier();  // all have asked before the first takes
  return {device, free_bytes * 9 / 10 / sharing};
}

void expect_device(DeviceChoice choice) {
  if (choice != DeviceChoice::cuda) return;
  if (const CudaObstacle obstacle = find_cuda_obstacle(); !obstacle.none())
    throw InputError(ErrorKind::usage, obstacle.problem, obstacle.why, obstacle.suggestion);
}

}  // namespace spectrace
