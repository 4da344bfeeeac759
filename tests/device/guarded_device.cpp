#include "guarded_device.hpp"

#include <ATen/ATen.h>
#include <ATen/EmptyTensor.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <torch/library.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

namespace spectrace::testing {
namespace {

constexpr auto kBackend = c10::DeviceType::PrivateUse1;
constexpr std::size_t kSize = std::size_t{8} << 30;  // address space; memory is taken as it is written
constexpr std::size_t kGrain = 256;
constexpr int kPoison = 0xff;  // floats and doubles of such bytes are NaN

/// What the device multiplies is libtorch's BLAS': so shall be what the host does, whose bits it is held against.
[[maybe_unused]] const int products_are_blas = ::setenv("MKL_CBWR", "COMPATIBLE", /*overwrite=*/1);

c10::Device the_device() { return c10::Device(kBackend, 0); }

[[noreturn]] void fail(const char* what) {
  std::perror(what);
  std::abort();
}

/// The device's memory, and the host's that is pinned for it.
class Memory {
 public:
  static Memory& instance() {
    static auto* memory = new Memory;  // tensors of static life may be freed after it
    return *memory;
  }

  void* allocate(std::size_t wanted, c10::StreamId stream) {
    const std::lock_guard lock(mutex_);
    const std::size_t size = std::max(kGrain, (wanted + kGrain - 1) / kGrain * kGrain);
    std::size_t offset = end_;
    if (const auto found = free_.find(size); found != free_.end()) {
      offset = found->second;
      free_.erase(found);
    } else {
      end_ += size + kGrain;  // a gap that belongs to nobody
      TORCH_CHECK(end_ <= kSize, "the guarded device's memory is full");
    }
    used_[offset] = {size, stream, {}};
    bytes_ += static_cast<std::int64_t>(size);
    std::memset(open_ + offset, kPoison, size);
    return closed_ + offset;
  }

  void free(void* address) {
    const std::lock_guard lock(mutex_);
    const auto offset = static_cast<std::size_t>(static_cast<char*>(address) - closed_);
    const Allocation& allocation = used_.at(offset);
    const std::size_t size = allocation.size;
    // The stream that it belongs to gives it to what follows there.
    if (const auto* user = unfinished_use(allocation, allocation.stream)) {
      std::fprintf(stderr, "memory of stream %d is freed while stream %d may still use it\n",
                   static_cast<int>(allocation.stream), static_cast<int>(*user));
      std::abort();
    }
    used_.erase(offset);
    bytes_ -= static_cast<std::int64_t>(size);
    free_.emplace(size, offset);
    std::memset(open_ + offset, kPoison, size);
    if (size >= (1u << 20)) ::madvise(open_ + offset / 4096 * 4096 + 4096, size - 8192, MADV_REMOVE);
  }

  /// An operation of the stream has the tensor that begins at the address among its own.
  void use(const void* address, c10::StreamId stream) {
    if (!holds(address)) return;  // of a tensor without elements
    const std::lock_guard lock(mutex_);
    const auto offset = static_cast<std::size_t>(static_cast<const char*>(address) - closed_);
    const auto after = used_.upper_bound(offset);
    if (after == used_.begin()) return;
    Allocation& allocation = std::prev(after)->second;
    const auto* other = unfinished_use(allocation, stream);
    TORCH_CHECK(other == nullptr, "stream ", stream, " uses what stream ", other ? *other : 0,
                " may not be done with: nobody waited for it");
    allocation.last_use[stream] = ++time_;
  }
  /// The host has waited for all that the stream had to do.
  void finished(c10::StreamId stream) {
    const std::lock_guard lock(mutex_);
    finished_[stream] = ++time_;
  }

  /// Where kernels find what a tensor points to.
  void* open(const void* address) const { return open_ + (static_cast<const char*>(address) - closed_); }
  bool holds(const void* address) const { return address >= closed_ && address < closed_ + kSize; }

  void* pin(std::size_t size) {
    void* address = std::aligned_alloc(64, (size + 64) / 64 * 64);
    const std::lock_guard lock(mutex_);
    pinned_[address] = size;
    return address;
  }
  void unpin(void* address) {
    const std::lock_guard lock(mutex_);
    pinned_.erase(address);
    std::free(address);
  }
  bool is_pinned(const void* address) {
    const std::lock_guard lock(mutex_);
    auto after = pinned_.upper_bound(const_cast<void*>(address));
    if (after == pinned_.begin()) return false;
    --after;
    return static_cast<const char*>(address) < static_cast<const char*>(after->first) + after->second;
  }

  std::int64_t bytes() const { return bytes_; }

 private:
  Memory() {
    const int file = ::memfd_create("guarded", MFD_CLOEXEC);
    if (file < 0 || ::ftruncate(file, kSize) != 0) fail("memfd");
    const auto map = [&](int protection) {
      void* address = ::mmap(nullptr, kSize, protection, MAP_SHARED | MAP_NORESERVE, file, 0);
      if (address == MAP_FAILED) fail("mmap");
      return static_cast<char*>(address);
    };
    open_ = map(PROT_READ | PROT_WRITE);
    closed_ = map(PROT_NONE);
    struct sigaction action {};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO;
    ::sigaction(SIGSEGV, &action, nullptr);
  }

  static void on_fault(int, siginfo_t* info, void*) {
    const Memory& memory = instance();
    if (memory.holds(info->si_addr)) {
      const auto offset = static_cast<std::size_t>(static_cast<char*>(info->si_addr) - memory.closed_);
      auto range = memory.used_.upper_bound(offset);
      const bool is_inside =
          range != memory.used_.begin() && offset < std::prev(range)->first + std::prev(range)->second.size;
      if (is_inside)
        std::fprintf(stderr, "the host touched device memory: byte %zu of an allocation of %zu bytes\n",
                     offset - std::prev(range)->first, std::prev(range)->second.size);
      else
        std::fprintf(stderr, "the host touched device memory that belongs to nobody\n");
    }
    std::signal(SIGSEGV, SIG_DFL);  // and again, for good
  }

  struct Allocation {
    std::size_t size;
    c10::StreamId stream;                             // that it was made for
    std::map<c10::StreamId, std::uint64_t> last_use;  // by stream: when
  };
  /// A stream other than `mine` that has used it and that nobody has waited for since.
  const c10::StreamId* unfinished_use(const Allocation& allocation, c10::StreamId mine) const {
    for (const auto& [stream, time] : allocation.last_use) {
      const auto finished = finished_.find(stream);
      if (stream != mine && (finished == finished_.end() || finished->second < time)) return &stream;
    }
    return nullptr;
  }

  std::mutex mutex_;
  std::uint64_t time_ = 0;
  std::map<c10::StreamId, std::uint64_t> finished_;  // when the host has waited for it last
  char *open_ = nullptr, *closed_ = nullptr;
  std::size_t end_ = 0;
  std::map<std::size_t, Allocation> used_;        // by offset
  std::multimap<std::size_t, std::size_t> free_;  // size, offset
  std::map<void*, std::size_t> pinned_;
  std::int64_t bytes_ = 0;
};

Memory& memory() { return Memory::instance(); }

/// Of the calling thread. 0 is the one of threads that did not choose.
thread_local c10::StreamId current_stream = 0;

struct DeviceAllocator final : c10::Allocator {
  c10::DataPtr allocate(std::size_t size) override {
    void* address = memory().allocate(size, current_stream);
    return {address, address, raw_deleter(), the_device()};
  }
  c10::DeleterFnPtr raw_deleter() const override {
    return [](void* address) { memory().free(address); };
  }
  void copy_data(void* to, const void* from, std::size_t size) const override {
    std::memcpy(memory().open(to), memory().open(from), size);
  }
};

struct PinnedAllocator final : c10::Allocator {
  c10::DataPtr allocate(std::size_t size) override {
    void* address = memory().pin(size);
    return {address, address, raw_deleter(), c10::Device(c10::kCPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override {
    return [](void* address) { memory().unpin(address); };
  }
  void copy_data(void* to, const void* from, std::size_t size) const override { std::memcpy(to, from, size); }
};

DeviceAllocator device_allocator;
PinnedAllocator pinned_allocator;

/// The CPU's view of a tensor of the device, for an operation of the current stream.
at::Tensor opened(const at::Tensor& tensor) {
  memory().use(tensor.storage().data(), current_stream);
  return at::from_blob(memory().open(tensor.const_data_ptr()), tensor.sizes(), tensor.strides(),
                       at::TensorOptions(tensor.scalar_type()));
}

/// Copies that were asked for without blocking: what the target will hold. Each stream's in their order.
class Streams {
 public:
  static Streams& instance() {
    static auto* streams = new Streams;
    return *streams;
  }

  /// By the calling thread's stream.
  void copy(const at::Tensor& from, const at::Tensor& to, bool non_blocking) {
    const std::lock_guard lock(mutex_);
    const bool is_from_host = from.device().is_cpu(), is_to_host = to.device().is_cpu();
    if (is_from_host) bytes_brought_ += static_cast<std::int64_t>(from.nbytes());
    // Pageable memory is copied at once on a GPU too.
    const bool is_later =
        non_blocking && is_from_host != is_to_host && memory().is_pinned((is_from_host ? from : to).const_data_ptr());
    // What the host gives is read as late as can be: when an operation follows.
    if (!is_from_host || !is_later) begin();
    const at::Tensor source = is_from_host ? from : opened(from), target = is_to_host ? to : opened(to);
    if (!is_later) {
      if (is_from_host || is_to_host) finish(current_stream);
      target.copy_(source);
      return;
    }
    // To the device: read only when the next operation begins. To the host: seen only after waiting.
    Waiting& mine = waiting_[current_stream];
    (is_from_host ? mine.to_device : mine.to_host)
        .push_back({is_from_host ? source : source.clone(), target, from, to});
    poison(target);
  }

  /// Before an operation of the calling thread's stream: what was on its way to the device has come.
  void begin() { begin(current_stream); }
  /// The host waits for a stream.
  void finish(c10::StreamId stream) {
    const std::lock_guard lock(mutex_);
    begin(stream);
    for (Copy& copy : waiting_[stream].to_host) copy.target.copy_(copy.source);
    waiting_[stream].to_host.clear();
    memory().finished(stream);
  }
  std::int64_t bytes_brought() const { return bytes_brought_; }

 private:
  struct Copy {
    at::Tensor source, target, keeps_from, keeps_to;
  };
  struct Waiting {
    std::vector<Copy> to_device, to_host;
  };
  void begin(c10::StreamId stream) {
    const std::lock_guard lock(mutex_);
    for (Copy& copy : waiting_[stream].to_device) copy.target.copy_(copy.source);
    waiting_[stream].to_device.clear();
  }
  static void poison(const at::Tensor& target) {
    TORCH_CHECK(target.is_non_overlapping_and_dense(), "a copy without blocking into a tensor with gaps");
    std::memset(target.mutable_data_ptr(), kPoison, target.nbytes());
  }

  std::recursive_mutex mutex_;
  std::map<c10::StreamId, Waiting> waiting_;
  std::int64_t bytes_brought_ = 0;
};

struct Guard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return kBackend; }
  c10::Device exchangeDevice(c10::Device) const override { return the_device(); }
  c10::Device getDevice() const override { return the_device(); }
  void setDevice(c10::Device) const override {}
  void uncheckedSetDevice(c10::Device) const noexcept override {}
  c10::Stream getStream(c10::Device) const override { return stream_of(current_stream); }
  c10::Stream getNewStream(c10::Device, int) const override {
    static std::atomic<c10::StreamId> last{0};
    return stream_of(++last);
  }
  c10::Stream exchangeStream(c10::Stream stream) const override {
    return stream_of(std::exchange(current_stream, stream.id()));
  }
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
  void synchronizeStream(const c10::Stream& stream) const override { Streams::instance().finish(stream.id()); }
  // An event is the stream that it was recorded in: who waits for it waits for all of that.
  void record(void** event, const c10::Stream& stream, c10::DeviceIndex, c10::EventFlag) const override {
    if (*event == nullptr) *event = new c10::StreamId;
    *static_cast<c10::StreamId*>(*event) = stream.id();
  }
  void synchronizeEvent(void* event) const override { Streams::instance().finish(*static_cast<c10::StreamId*>(event)); }
  void destroyEvent(void* event, c10::DeviceIndex) const noexcept override {
    delete static_cast<c10::StreamId*>(event);
  }

 private:
  static c10::Stream stream_of(c10::StreamId id) { return c10::Stream(c10::Stream::UNSAFE, the_device(), id); }
};
C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard)

struct Hooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  bool isPinnedPtr(const void* data) const override { return memory().is_pinned(data); }
  at::Allocator* getPinnedMemoryAllocator() const override { return &pinned_allocator; }
};

const c10::DispatchKeySet device_keys(c10::DispatchKey::PrivateUse1);

at::Tensor empty(at::IntArrayRef size, std::optional<at::ScalarType> type, std::optional<at::Layout>,
                 std::optional<at::Device>, std::optional<bool>, std::optional<at::MemoryFormat> format) {
  return at::detail::empty_generic(size, &device_allocator, device_keys, type.value_or(at::kFloat), format);
}

at::Tensor empty_strided(at::IntArrayRef size, at::IntArrayRef stride, std::optional<at::ScalarType> type,
                         std::optional<at::Layout>, std::optional<at::Device>, std::optional<bool>) {
  return at::detail::empty_strided_generic(size, stride, &device_allocator, device_keys, type.value_or(at::kFloat));
}

at::Tensor copy_from(const at::Tensor& from, const at::Tensor& to, bool non_blocking) {
  Streams::instance().copy(from.sizes() == to.sizes() ? from : from.expand(to.sizes()), to, non_blocking);
  return to;
}

/// One call of an operation: its tensors of the device become the CPU's, and its results the device's.
class Call {
 public:
  explicit Call(std::string name) : name_(std::move(name)) {}

  at::Tensor to_cpu(const at::Tensor& tensor) {
    if (!tensor.defined()) return tensor;
    if (tensor.device().is_cpu()) {
      TORCH_CHECK(tensor.dim() == 0, name_, " mixes tensors of the host and of the guarded device");
      return tensor;
    }
    for (const Pair& pair : pairs_)
      if (pair.device.is_same(tensor)) return pair.cpu;
    // One without elements may be about to get its size.
    at::Tensor cpu =
        tensor.numel() == 0 ? at::empty(tensor.sizes(), at::TensorOptions(tensor.scalar_type())) : opened(tensor);
    pairs_.push_back({tensor, cpu, cpu.const_data_ptr()});
    return cpu;
  }

  at::Tensor to_device(const at::Tensor& cpu) {
    if (!cpu.defined()) return cpu;
    for (const Pair& pair : pairs_) {
      if (pair.cpu.is_same(cpu)) return pair.device;
      TORCH_CHECK(pair.device.numel() == 0 || !cpu.is_alias_of(pair.cpu), name_, " gives a view; register it");
    }
    return made(cpu);
  }

  void take_over_sizes() {
    for (const Pair& pair : pairs_) {
      if (pair.cpu.sizes() == pair.device.sizes()) {
        TORCH_CHECK(pair.device.numel() == 0 || pair.cpu.const_data_ptr() == pair.data, name_, " moved a result");
        continue;
      }
      TORCH_CHECK(pair.device.numel() == 0, name_, " changes the size of a result that has elements");
      const at::Tensor sized = made(pair.cpu);
      auto* const impl = pair.device.unsafeGetTensorImpl();
      impl->set_storage_keep_dtype(sized.storage());
      impl->set_sizes_and_strides(sized.sizes(), sized.strides());
    }
  }

 private:
  struct Pair {
    at::Tensor device, cpu;
    const void* data;
  };
  static at::Tensor made(const at::Tensor& cpu) {
    const at::Tensor dense = cpu.is_non_overlapping_and_dense() ? cpu : cpu.contiguous();
    const at::Tensor tensor = empty_strided(dense.sizes(), dense.strides(), dense.scalar_type(), {}, {}, {});
    if (dense.numel() > 0) std::memcpy(memory().open(tensor.const_data_ptr()), dense.const_data_ptr(), dense.nbytes());
    return tensor;
  }

  std::string name_;
  std::vector<Pair> pairs_;
};

template <typename F>
void change_tensors(torch::jit::Stack& stack, std::size_t begin, std::size_t count, const F& change) {
  for (std::size_t i = begin; i < begin + count; ++i) {
    c10::IValue& value = stack[i];
    if (value.isTensor()) {
      value = change(value.toTensor());
    } else if (value.isTensorList()) {
      std::vector<at::Tensor> list;
      for (const at::Tensor& tensor : value.toTensorVector()) list.push_back(change(tensor));
      value = c10::IValue(std::move(list));
    } else if (value.isOptionalTensorList()) {
      TORCH_CHECK(false, "a list of optional tensors: indexing by tensors is not for a stream");
    }
  }
}

void run_on_cpu(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  Streams::instance().begin();
  const auto& schema = op.schema();
  if (schema.name() == "aten::_local_scalar_dense") Streams::instance().finish(current_stream);
  Call call(schema.name());
  const std::size_t num_arguments = schema.arguments().size(), num_results = schema.returns().size();
  change_tensors(*stack, stack->size() - num_arguments, num_arguments,
                 [&](const at::Tensor& x) { return call.to_cpu(x); });
  op.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), stack);
  call.take_over_sizes();
  change_tensors(*stack, stack->size() - num_results, num_results,
                 [&](const at::Tensor& x) { return call.to_device(x); });
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, library) {
  library.fallback(torch::CppFunction::makeFromBoxedFunction<&run_on_cpu>());
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) {
  library.impl("empty.memory_format", TORCH_FN(empty));
  library.impl("empty_strided", TORCH_FN(empty_strided));
  library.impl("_copy_from", TORCH_FN(copy_from));
  // Backends without a kernel of their own get this one from batch norm, with other bits.
  library.impl("native_layer_norm", torch::CppFunction::makeFromBoxedFunction<&run_on_cpu>());
  library.impl("as_strided", TORCH_FN(at::native::as_strided_tensorimpl));
  library.impl("view", TORCH_FN(at::native::view));
  library.impl("_reshape_alias", TORCH_FN(at::native::_reshape_alias));
}

}  // namespace

Device guarded_device() {
  [[maybe_unused]] static const bool is_registered = [] {
    c10::SetAllocator(kBackend, &device_allocator);
    at::RegisterPrivateUse1HooksInterface(new Hooks);
    c10::register_privateuse1_backend("guarded");
    return true;
  }();
  return Device::of_backend(the_device());
}

std::int64_t guarded_bytes() { return memory().bytes(); }
std::int64_t guarded_bytes_brought() { return Streams::instance().bytes_brought(); }

}  // namespace spectrace::testing
