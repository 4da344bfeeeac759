#include "spectrace/numerics/device.hpp"

#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <dlfcn.h>
#include <link.h>
#include <torch/headeronly/version.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <mutex>
#include <vector>

#include "device_driver.hpp"
#include "spectrace/core/error.hpp"
#include "spectrace/core/parallel.hpp"

namespace spectrace {
namespace {

/// Bytes go to a device through two pinned buffers of this size: while one leaves, the other is filled.
constexpr std::int64_t kPinnedBytes = Device::kBroughtAtOnce, kPinnedBuffers = 2;

constexpr const char* kDriverLibrary = "libcuda.so.1";

/// Environment variables that libraries read when they start, and the value that keeps products exact.
/// NVIDIA_TF32_OVERRIDE and the CUBLAS_ ones: cuBLAS documentation, "Results reproducibility", "Floating Point
/// Emulation".
constexpr std::array<std::array<const char*, 2>, 5> kExactEnvironment = {{{"NVIDIA_TF32_OVERRIDE", "0"},
                                                                          {"TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "0"},
                                                                          {"CUBLAS_EMULATE_SINGLE_PRECISION", "0"},
                                                                          {"CUBLAS_EMULATE_DOUBLE_PRECISION", "0"},
                                                                          {"CUBLAS_WORKSPACE_CONFIG", ":4096:8"}}};

void set_exact_environment() {
  for (const auto& [name, value] : kExactEnvironment) ::setenv(name, value, /*overwrite=*/1);
}

std::string version_text(long version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

/// Where libtorch_cpu.so, which this program is linked to, was found.
std::string libtorch_folder() {
  void* const library = ::dlopen("libtorch_cpu.so", RTLD_LAZY | RTLD_NOLOAD);
  link_map* place = nullptr;
  if (library == nullptr || ::dlinfo(library, RTLD_DI_LINKMAP, &place) != 0) return ".";
  return std::filesystem::path(place->l_name).parent_path().string();
}

const CudaDriver& machine_driver() {
  static const CudaDriver driver = ask_cuda_driver(kDriverLibrary);
  return driver;
}

CudaObstacle obstacle_of(const CudaDriver& driver) {
  const std::string where = "Is this a node with a GPU (Slurm: --gres=gpu:1)? --device cpu does without.";
  if (!driver.is_there) return {"device cuda: no NVIDIA driver", driver.error, where};
  if (!driver.error.empty()) return {"device cuda: the NVIDIA driver does not start", driver.error, where};
  if (driver.gpus.empty()) {
    const char* visible = std::getenv("CUDA_VISIBLE_DEVICES");
    return {"device cuda: no GPU",
            visible == nullptr ? "the NVIDIA driver finds none"
                               : "the NVIDIA driver finds none, CUDA_VISIBLE_DEVICES is '" + std::string(visible) + "'",
            where};
  }
  return {};
}

/// libtorch_cuda registers its kernels when it is opened. Its symbols must be seen by what it loads later by name.
CudaObstacle open_cuda_part(const std::string& folder) {
  const std::string cure = "tools/setup --cuda brings it; --device cpu does without.";
  const std::filesystem::path library = std::filesystem::path(folder) / "libtorch_cuda.so";
  std::error_code ignored;
  if (!std::filesystem::exists(library, ignored))
    return {"device cuda: libtorch's CUDA part is not there", "no file '" + library.string() + "'", cure};
  if (::dlopen(library.c_str(), RTLD_NOW | RTLD_GLOBAL) == nullptr)
    return {"device cuda: libtorch's CUDA part cannot be opened", ::dlerror(), cure};
  return {};
}

const at::CUDAHooksInterface& hooks() { return at::detail::getCUDAHooks(); }

c10::impl::VirtualGuardImpl guard_of(at::Device device) { return c10::impl::VirtualGuardImpl(device.type()); }

Tensor pinned(at::IntArrayRef sizes, at::ScalarType type) {
  return at::empty(sizes, at::TensorOptions(type).pinned_memory(true));
}

/// Contiguous, of one dimension and of the same size. One thread does not reach the speed of a GPU's bus.
void copy_on_all_threads(const Tensor& from, const Tensor& to) {
  constexpr std::int64_t kElements = std::int64_t{1} << 20;
  const std::int64_t count = from.numel();
  parallel_for((count + kElements - 1) / kElements, [&](std::int64_t task) {
    const std::int64_t first = task * kElements, size = std::min(kElements, count - first);
    to.narrow(0, first, size).copy_(from.narrow(0, first, size));
  });
}

/// The device's second stream: always the same one, since libtorch keeps freed memory for each stream apart.
c10::Stream side_stream(at::Device device) {
  static std::mutex mutex;
  static std::map<std::string, c10::Stream> streams;
  const std::lock_guard lock(mutex);
  auto found = streams.find(device.str());
  if (found == streams.end()) found = streams.emplace(device.str(), guard_of(device).getNewStream(device)).first;
  return found->second;
}

}  // namespace

CudaObstacle find_cuda_obstacle(const std::string& driver, const std::string& folder) {
  if (auto obstacle = obstacle_of(ask_cuda_driver(driver)); !obstacle.none()) return obstacle;
  return open_cuda_part(folder);
}

CudaObstacle find_cuda_obstacle() {
  static const CudaObstacle found = []() -> CudaObstacle {
    if (auto obstacle = obstacle_of(machine_driver()); !obstacle.none()) return obstacle;
    // Libraries read the environment when they are opened; libtorch's settings come after, so that nothing has asked
    // for its CUDA part before it is there.
    set_exact_environment();
    if (auto obstacle = open_cuda_part(libtorch_folder()); !obstacle.none()) return obstacle;
    demand_exact_products();
    if (at::hasCUDA()) return {};
    return {"device cuda: libtorch's CUDA part sees no GPU",
            "the driver serves CUDA " + version_text(machine_driver().version) + ", libtorch is made with " +
                version_text(hooks().hasCUDART() ? hooks().versionCUDART() : 0),
            "Is the driver too old? --device cpu does without."};
  }();
  return found;
}

int num_cuda_devices() { return find_cuda_obstacle().none() ? static_cast<int>(machine_driver().gpus.size()) : 0; }

Device Device::cuda(int index) {
  if (const CudaObstacle obstacle = find_cuda_obstacle(); !obstacle.none())
    throw InputError(ErrorKind::usage, obstacle.problem, obstacle.why, obstacle.suggestion);
  SPECTRACE_ASSERT(index >= 0 && index < num_cuda_devices());
  return Device(at::Device(at::kCUDA, static_cast<at::DeviceIndex>(index)));
}

void Device::for_tasks(std::int64_t num_tasks, const std::function<void(std::int64_t)>& task) const {
  if (is_host()) return parallel_for(num_tasks, task);
  for (std::int64_t i = 0; i < num_tasks; ++i) task(i);
}

Tensor Device::bring(const Tensor& host, std::optional<at::ScalarType> wanted) const {
  SPECTRACE_ASSERT(host.device().is_cpu());
  const at::ScalarType stored = host.scalar_type(), type = wanted.value_or(stored);
  if (is_host() && type == stored) return host;
  SPECTRACE_ASSERT(host.is_contiguous());
  const Tensor there = at::empty(host.sizes(), options(type));
  const Tensor from = host.view(-1), to = there.view(-1);
  if (is_host()) {
    copy_on_all_threads(from, to);
    return there;
  }
  const std::int64_t total = from.numel(), most = kPinnedBytes / host.element_size();
  struct Buffer {
    Tensor memory;
    c10::Event has_left;
  };
  std::vector<Buffer> buffers;
  for (std::int64_t first = 0; first < total; first += most) {
    const std::int64_t count = std::min(most, total - first), piece = first / most;
    if (piece < kPinnedBuffers) buffers.push_back({pinned({count}, stored), c10::Event(device_.type())});
    Buffer& buffer = buffers[static_cast<std::size_t>(piece % kPinnedBuffers)];
    if (piece >= kPinnedBuffers) buffer.has_left.synchronize();
    const Tensor bytes = buffer.memory.narrow(0, 0, count), target = to.narrow(0, first, count);
    copy_on_all_threads(from.narrow(0, first, count), bytes);
    // What is narrower than its target comes as it is and is widened there.
    const Tensor raw = type == stored ? target : at::empty({count}, options(stored));
    raw.copy_(bytes, /*non_blocking=*/true);
    if (total > kPinnedBuffers * most) buffer.has_left.record(guard_of(device_).getStream(device_));
    if (type != stored) target.copy_(raw);
  }
  return there;
}

Tensor Device::to_host(const Tensor& tensor) {
  const Device device = of(tensor);
  if (device.is_host()) return tensor;
  const Tensor here = pinned(tensor.sizes(), tensor.scalar_type());
  here.copy_(tensor.contiguous(), /*non_blocking=*/true);
  device.wait();
  return here;
}

void Device::wait() const {
  if (is_host()) return;
  const auto guard = guard_of(device_);
  guard.synchronizeStream(guard.getStream(device_));
}

SideStream::SideStream(const Device& device) {
  if (device.is_host()) return;
  device.make_current();
  before_ = guard_of(device.device_).exchangeStream(side_stream(device.device_));
}

SideStream::~SideStream() {
  if (before_) guard_of(before_->device()).exchangeStream(*before_);
}

void Device::make_current() const {
  if (!is_host()) guard_of(device_).setDevice(device_);
}

std::string Device::kind() const {
  if (is_host()) return "cpu";
  if (!device_.is_cuda()) return device_.str();
  const CudaDriver::Gpu& gpu = machine_driver().gpus.at(static_cast<std::size_t>(device_.index()));
  return gpu.name + ", " + std::to_string(gpu.num_multiprocessors) + " multiprocessors, compute capability " +
         std::to_string(gpu.major) + "." + std::to_string(gpu.minor) + ", torch " + TORCH_VERSION + ", CUDA " +
         version_text(hooks().versionCUDART());
}

Json Device::facts() const {
  if (!device_.is_cuda()) return {{"kind", kind()}};
  const CudaDriver& driver = machine_driver();
  const CudaDriver::Gpu& gpu = driver.gpus.at(static_cast<std::size_t>(device_.index()));
  return {{"kind", kind()},
          {"index", device_.index()},
          {"uuid", gpu.uuid},
          {"driver_serves_cuda", version_text(driver.version)},
          {"mig", gpu.is_mig},
          {"mps", gpu.is_mps},
          {"exactness", exactness_facts()}};
}

std::int64_t Device::free_bytes() const {
  if (!device_.is_cuda()) return 0;
  // What libtorch holds in its cache is free for it.
  const auto info = at::getDeviceAllocator(at::kCUDA)->getMemoryInfo(device_.index());
  return static_cast<std::int64_t>(info.first);
}

void demand_exact_products() {
  set_exact_environment();
  at::Context& context = at::globalContext();
  context.setFloat32MatmulPrecision("highest");
  context.setAllowTF32CuBLAS(false);
  context.setAllowTF32CuDNN(false);
  context.setAllowFP16ReductionCuBLAS(/*allow_reduced_precision=*/false, /*allow_splitk=*/false);
  context.setAllowBF16ReductionCuBLAS(/*allow_reduced_precision=*/false, /*allow_splitk=*/false);
  context.setDeterministicAlgorithms(true, /*warn_only=*/false);
  // Else every tensor that is made would be filled before it is written.
  context.setDeterministicFillUninitializedMemory(false);
}

Json exactness_facts() {
  at::Context& context = at::globalContext();
  Json facts = {{"tf32_cublas", context.allowTF32CuBLAS()},
                {"tf32_cudnn", context.allowTF32CuDNN()},
                {"reduced_precision_fp16",
                 context.allowFP16ReductionCuBLAS() == at::CuBLASReductionOption::AllowReducedPrecisionWithSplitK},
                {"reduced_precision_bf16",
                 context.allowBF16ReductionCuBLAS() == at::CuBLASReductionOption::AllowReducedPrecisionWithSplitK},
                {"deterministic_algorithms", context.deterministicAlgorithms()}};
  for (const auto& [name, wanted] : kExactEnvironment) {
    const char* value = std::getenv(name);
    facts[name] = value == nullptr ? Json() : Json(value);
  }
  return facts;
}

}  // namespace spectrace
