#include "nccl_reducer.hpp"

#ifdef SPECTRACE_WITH_CUDA

#include <cuda_runtime_api.h>
#include <nccl.h>

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <exception>
#include <set>

#include "extremes.hpp"
#include "spectrace/comm/launch.hpp"
#include "spectrace/core/error.hpp"
#include "spectrace/core/log.hpp"

namespace spectrace::nccl {
namespace {

/// What goes to the GPU at once.
constexpr std::size_t kBufferBytes = std::size_t{16} << 20;

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

class NcclReducer final : public Reducer {
 public:
  explicit NcclReducer(Communicator& communicator) : communicator_(communicator) {
    check(cudaSetDevice(device_of(communicator, num_devices())), "cudaSetDevice");
    check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
    check(cudaMalloc(&buffer_, kBufferBytes), "cudaMalloc");
    ncclUniqueId id{};
    if (communicator.is_root()) check(ncclGetUniqueId(&id), "ncclGetUniqueId");
    std::string bytes(id.internal, sizeof id.internal);
    communicator.broadcast(bytes, 0);
    std::copy(bytes.begin(), bytes.end(), id.internal);
    check(ncclCommInitRank(&comm_, communicator.size(), id, communicator.rank()), "ncclCommInitRank");
  }

  ~NcclReducer() override {
    // Errors have no one left to go to: the results are out, and the process ends.
    if (std::uncaught_exceptions() == 0)
      ncclCommDestroy(comm_);
    else
      ncclCommAbort(comm_);
    cudaFree(buffer_);
    cudaStreamDestroy(stream_);
  }

  void sum(std::span<std::int64_t> values) override { all_reduce(values, ncclInt64, ncclSum); }
  void min(std::span<double> values) override {
    prepare_extremes(values);
    all_reduce(values, ncclFloat64, ncclMin);
  }
  void max(std::span<double> values) override {
    prepare_extremes(values);
    all_reduce(values, ncclFloat64, ncclMax);
  }
  const char* backend() const override { return "nccl"; }

 private:
  template <typename T>
  void all_reduce(std::span<T> values, ncclDataType_t type, ncclRedOp_t operation) {
    constexpr std::size_t part_size = kBufferBytes / sizeof(T);
    for (std::size_t begin = 0; begin < values.size(); begin += part_size) {
      const auto part = values.subspan(begin, std::min(part_size, values.size() - begin));
      check(cudaMemcpyAsync(buffer_, part.data(), part.size_bytes(), cudaMemcpyHostToDevice, stream_),
            "cudaMemcpyAsync");
      check(ncclAllReduce(buffer_, buffer_, part.size(), type, operation, comm_, stream_), "ncclAllReduce");
      check(cudaMemcpyAsync(part.data(), buffer_, part.size_bytes(), cudaMemcpyDeviceToHost, stream_),
            "cudaMemcpyAsync");
      check(cudaStreamSynchronize(stream_), "cudaStreamSynchronize");
      // A broken network shows here only: the kernel ends, its result is worthless.
      ncclResult_t later = ncclSuccess;
      check(ncclCommGetAsyncError(comm_, &later), "ncclCommGetAsyncError");
      check(later, "ncclAllReduce");
    }
  }

  void check(cudaError_t code, const char* call) {
    if (code != cudaSuccess) fail(call, cudaGetErrorString(code));
  }
  void check(ncclResult_t code, const char* call) {
    if (code != ncclSuccess) fail(call, std::string(ncclGetErrorString(code)) + ": " + ncclGetLastError(comm_));
  }
  /// As for MPI: the other ranks wait inside the same call, so all must end.
  [[noreturn]] void fail(const char* call, const std::string& reason) {
    log_error("rank {} on {}: {} failed ({}). All ranks end; `--reduce mpi` does without NCCL.", communicator_.rank(),
              host_name(), call, reason);
    communicator_.abort(3);
    std::_Exit(3);  // not reached; the compiler does not see it through a virtual call
  }

  Communicator& communicator_;
  cudaStream_t stream_ = nullptr;
  void* buffer_ = nullptr;
  ncclComm_t comm_ = nullptr;
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

std::unique_ptr<Reducer> make_reducer(Communicator& communicator) {
  return std::make_unique<NcclReducer>(communicator);
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

std::unique_ptr<Reducer> make_reducer(Communicator&) {
  throw std::logic_error("a build without NCCL was asked for it");
}

std::string library_version() { return "none"; }

}  // namespace spectrace::nccl

#endif
