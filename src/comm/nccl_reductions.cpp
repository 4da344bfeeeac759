#include "nccl_reductions.hpp"

#ifdef SPECTRACE_WITH_CUDA

#include <cuda_runtime_api.h>
#include <nccl.h>

#include <set>

#include "nccl_queue.hpp"
#include "spectrace/comm/launch.hpp"
#include "spectrace/core/stopwatch.hpp"

namespace spectrace::nccl {
namespace {

/// Devices this process sees; 0 without a driver.
int num_devices() {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess) {
    static_cast<void>(cudaGetLastError());  // "no device" is an answer: do not leave it behind for libtorch
    return 0;
  }
  return count;
}

/// The local rank's own; 0 where the launcher shows each rank only one (Slurm's --gpus-per-task).
int device_of(const Communicator& communicator, int count) { return communicator.local_rank() % count; }

/// A name of the rank's GPU that no other GPU has; empty if it has none.
std::string device_name(const Communicator& communicator) {
  const int count = num_devices();
  cudaDeviceProp properties{};
  if (count == 0 || cudaGetDeviceProperties(&properties, device_of(communicator, count)) != cudaSuccess) return {};
  return host_name() + "/" + std::string(properties.uuid.bytes, sizeof properties.uuid.bytes);
}

/// The libraries' own calls.
struct LibraryApi {
  using Stream = cudaStream_t;
  using Comm = ncclComm_t;
  using Id = ncclUniqueId;
  using DataType = ncclDataType_t;
  using Operation = ncclRedOp_t;
  static constexpr DataType kInt64 = ncclInt64, kFloat64 = ncclFloat64;
  static constexpr Operation kSum = ncclSum, kMin = ncclMin;

  std::string set_device(int device) { return text(cudaSetDevice(device)); }
  std::string create_stream(Stream& stream) { return text(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking)); }
  std::string allocate(void*& buffer, std::size_t size) { return text(cudaMalloc(&buffer, size)); }
  std::string make_id(Id& id) { return text(ncclGetUniqueId(&id), nullptr); }
  std::string join(Comm& comm, int size, const Id& id, int rank) {
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    return text(ncclCommInitRankConfig(&comm, size, id, rank, &config), nullptr);
  }
  std::string copy_to_device(void* to, const void* from, std::size_t size, Stream stream) {
    return text(cudaMemcpyAsync(to, from, size, cudaMemcpyHostToDevice, stream));
  }
  std::string copy_to_host(void* to, const void* from, std::size_t size, Stream stream) {
    return text(cudaMemcpyAsync(to, from, size, cudaMemcpyDeviceToHost, stream));
  }
  std::string reduce(void* buffer, std::size_t count, DataType type, Operation operation, int root, Comm comm,
                     Stream stream) {
    return text(ncclReduce(buffer, buffer, count, type, operation, root, comm, stream), comm);
  }
  std::string all_reduce(void* buffer, std::size_t count, DataType type, Operation operation, Comm comm,
                         Stream stream) {
    return text(ncclAllReduce(buffer, buffer, count, type, operation, comm, stream), comm);
  }
  std::string state_of(Comm comm, bool& is_under_way) {
    ncclResult_t state = ncclSuccess;
    if (auto error = text(ncclCommGetAsyncError(comm, &state), comm); !error.empty()) return error;
    is_under_way = state == ncclInProgress;
    return text(state, comm);
  }
  std::string is_through(Stream stream, bool& is_through) {
    const cudaError_t state = cudaStreamQuery(stream);
    is_through = state == cudaSuccess;
    return state == cudaErrorNotReady ? "" : text(state);
  }
  /// All ranks come here, or one has gone, and nobody waits for it for long: the process ends.
  void leave(Comm comm) {
    constexpr double kMostSeconds = 10;
    ncclCommFinalize(comm);
    const Stopwatch watch;
    for (ncclResult_t state = ncclInProgress; state == ncclInProgress && watch.elapsed_s() < kMostSeconds;)
      if (ncclCommGetAsyncError(comm, &state) != ncclSuccess) break;
    ncclCommDestroy(comm);
  }
  void abort(Comm comm) { ncclCommAbort(comm); }
  void free(void* buffer) { cudaFree(buffer); }
  void destroy_stream(Stream stream) { cudaStreamDestroy(stream); }

 private:
  static std::string text(cudaError_t code) { return code == cudaSuccess ? "" : cudaGetErrorString(code); }
  static std::string text(ncclResult_t code, Comm comm) {
    if (code == ncclSuccess || code == ncclInProgress) return {};
    return std::string(ncclGetErrorString(code)) + ": " + ncclGetLastError(comm);
  }
};

}  // namespace

std::string find_obstacle(Communicator& communicator) {
  const auto devices = communicator.all_gather(device_name(communicator));
  std::set<std::string> seen;
  for (std::size_t rank = 0; rank < devices.size(); ++rank) {
    if (devices[rank].empty()) return "rank " + std::to_string(rank) + " has no GPU";
    if (!seen.insert(devices[rank]).second)
      return "rank " + std::to_string(rank) + " shares a GPU with another rank, NCCL wants one for each";
  }
  return {};
}

std::unique_ptr<Reductions> make_reductions(Communicator& communicator) {
  return std::make_unique<NcclReductions<LibraryApi>>(communicator, device_of(communicator, num_devices()));
}

std::string library_version() {
  int version = 0;
  if (ncclGetVersion(&version) != ncclSuccess) return "NCCL of unknown version";
  return "NCCL " + std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100) + "." +
         std::to_string(version % 100);
}

}  // namespace spectrace::nccl

#else

#include <stdexcept>

namespace spectrace::nccl {

std::string find_obstacle(Communicator&) { return "this build of spectrace has no NCCL, see tools/setup --cuda"; }

std::unique_ptr<Reductions> make_reductions(Communicator&) {
  throw std::logic_error("a build without NCCL was asked for it");
}

std::string library_version() { return "none"; }

}  // namespace spectrace::nccl

#endif
