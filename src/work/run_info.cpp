#include "spectrace/work/run_info.hpp"

#include <fmt/chrono.h>
#include <torch/headeronly/version.h>
#include <unistd.h>

#include <cstdlib>
#include <ctime>

#include "spectrace/comm/communicator.hpp"
#include "spectrace/comm/launch.hpp"
#include "spectrace/comm/reductions.hpp"
#include "spectrace/core/build_info.hpp"
#include "spectrace/core/host_memory.hpp"
#include "spectrace/measure/stages.hpp"
#include "spectrace/store/hdf5_version.hpp"

namespace spectrace {

std::string utc_time() { return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr))); }

namespace {

Json stages_json(const StageTimes& times) {
  Json stages = Json::object();
  for (std::size_t i = 0; i < kNumStages; ++i)
    if (times.seconds[i] > 0 || times.bytes[i] > 0)
      stages[name(static_cast<Stage>(i))] = {
          {"seconds", times.seconds[i]}, {"flops", times.flops[i]}, {"bytes_read", times.bytes[i]}};
  return stages;
}

}  // namespace

std::string RankReport::to_json(int rank, int num_threads, const Device& device) const {
  Json json = {{"rank", rank},
               {"host", host_name()},
               {"pid", ::getpid()},
               {"threads", num_threads},
               {"device", device.kind()},
               {"stopped", stopped},
               {"units", num_units},
               {"ended", utc_time()},
               {"compute_s", compute_s},
               {"stages", stages_json(stages)},
               {"bytes_read", bytes_read},
               {"peak_memory_bytes", peak_memory_bytes()}};
  if (!device.is_host()) json["device_facts"] = device.facts();
  return json.dump();
}

Json versions() {
  return {{"spectrace", program_version()},
          {"build", build_description()},
          {"libtorch", TORCH_VERSION},
          {"mpi", mpi_library_version()},
          {"nccl", nccl_library_version()},
          {"hdf5", hdf5_library_version()},
          {"cuda",
           kCudaWasRun ? "opened where a run asks for it" : "opened where a run asks for it; never run on a GPU yet"}};
}

Json slurm_ids() {
  Json ids = Json::object();
  for (const char* variable : {"SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_STEP_ID",
                               "SLURM_JOB_NODELIST", "SLURM_RESTART_COUNT"})
    if (const char* value = std::getenv(variable)) ids[variable] = value;
  return ids;
}

}  // namespace spectrace
