#pragma once

#include <c10/core/Stream.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "spectrace/core/json.hpp"
#include "spectrace/numerics/tensor.hpp"

namespace spectrace {

/// Where tensors lie and are worked on: the host, whose threads share out tasks of tensor operations, or another device
/// (a GPU), where operations follow each other on one stream and the host may not touch what tensors hold. The one
/// place that tells the kinds apart: everything else asks it.
class Device {
 public:
  Device() = default;
  static Device cpu() { return {}; }
  /// @throws InputError (usage) that says what is missing: driver, GPU, or libtorch's CUDA part.
  static Device cuda(int index);
  /// Of any of libtorch's backends (tests).
  static Device of_backend(at::Device device) { return Device(device); }
  static Device of(const Tensor& tensor) { return Device(tensor.device()); }

  bool is_host() const { return device_.is_cpu(); }
  /// Whether its operations leave the host's cores free: then these read the next layer and take spectra meanwhile.
  bool leaves_host_free() const { return !is_host(); }
  /// What `bring` has on the device beside its result, at most.
  static constexpr std::int64_t kBroughtAtOnce = std::int64_t{64} << 20;
  /// For tensors made on it.
  at::TensorOptions options(at::ScalarType type) const { return at::TensorOptions(type).device(device_); }

  /// Calls task(i) for i in [0, num_tasks), tensor operations of the device: on all threads where they are the host's,
  /// else one after the other on the calling thread.
  void for_tasks(std::int64_t num_tasks, const std::function<void(std::int64_t)>& task) const;

  /// The host's tensor on the device, in `type` (which holds what the tensor's holds) or its own; itself if it is there
  /// and has it. Goes as it is, through two pinned buffers, and is converted there. Returns before the bytes are there:
  /// operations that follow on the calling thread's stream come after. @pre `host` is contiguous where the device is
  /// another one.
  Tensor bring(const Tensor& host, std::optional<at::ScalarType> type = std::nullopt) const;
  /// A device's tensor in the host's memory, contiguous; itself if it is there. Waits for what is under way.
  static Tensor to_host(const Tensor& tensor);
  /// Until all operations so far of the calling thread's stream are done: then those of other streams may use what they
  /// made, and what they used may be freed. What went wrong in one of them may show here.
  void wait() const;
  /// For the calling thread: what it makes without naming a device's number is made on this one.
  void make_current() const;

  /// What decides the bits beside the program: "cpu", or name, multiprocessors, compute capability, versions of torch
  /// and CUDA. The same for GPUs that give the same bits.
  std::string kind() const;
  /// For run.json: the kind, and of a GPU its driver, UUID, MIG and MPS as far as they can be told, and the settings of
  /// exactness as libtorch and the environment have them.
  Json facts() const;
  /// Bytes that a process may take of it now; 0 for the host, whose memory is counted elsewhere.
  std::int64_t free_bytes() const;

  friend class SideStream;
  friend bool operator==(const Device& a, const Device& b) { return a.device_ == b.device_; }

 private:
  explicit Device(at::Device device) : device_(device) {}

  at::Device device_{at::kCPU};
};

/// While it lives, what the calling thread asks of the device goes to a second stream, beside that of all other
/// threads. The two meet where a thread waits for its own (Device::wait). Nothing on the host. One thread at a time.
class SideStream {
 public:
  explicit SideStream(const Device& device);
  ~SideStream();
  SideStream(const SideStream&) = delete;
  SideStream& operator=(const SideStream&) = delete;

 private:
  std::optional<c10::Stream> before_;
};

/// What is missing for Device::cuda, as "problem (why) suggestion" has it; none if nothing is.
struct CudaObstacle {
  std::string problem, why, suggestion;
  bool none() const { return problem.empty(); }
};
/// Asks the driver and opens libtorch's CUDA part, once: a program that never asks loads neither. Call it before other
/// work with tensors. @param driver, libtorch_folder other ones than the machine's, for tests.
CudaObstacle find_cuda_obstacle();
CudaObstacle find_cuda_obstacle(const std::string& driver, const std::string& libtorch_folder);
/// GPUs that this process sees; 0 if there is an obstacle.
int num_cuda_devices();

/// Whether results of this version were ever held against the CPU's on a GPU. Until then `auto` is the CPU, and a run
/// on a GPU says so.
inline constexpr bool kCudaWasRun = false;

/// Turns off, for the whole process, what would cost digits or the same bits twice on a GPU: TF32, reduced-precision
/// reductions, emulated float64 and float32, algorithms that are not deterministic. Before the first use of a GPU.
void demand_exact_products();
/// These settings, read back from libtorch and the environment.
Json exactness_facts();

}  // namespace spectrace
