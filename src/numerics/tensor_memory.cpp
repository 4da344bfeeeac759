#include "spectrace/numerics/tensor_memory.hpp"

#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/alloc_cpu.h>
#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <mutex>

#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace spectrace {
namespace {

std::atomic<std::int64_t> bytes_taken{0};
std::atomic<std::int64_t> most_bytes{0};

/// What a block of memory takes, as it was and as it will be counted.
std::int64_t size_of(void* block) {
#ifdef __GLIBC__
  return static_cast<std::int64_t>(::malloc_usable_size(block));
#else
  static_cast<void>(block);
  return 0;  // nothing is counted, so nothing is refused
#endif
}

void release(void* block) {
  bytes_taken -= size_of(block);
  c10::free_cpu(block);
}

double gib(std::int64_t bytes) { return static_cast<double>(bytes) / (1 << 30); }

/// libtorch's memory on the host, counted.
class BoundedAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(std::size_t num_bytes) override {
    const std::int64_t taken = bytes_taken, most = most_bytes;
    if (num_bytes > static_cast<std::size_t>(std::max<std::int64_t>(0, most - taken)))
      throw TensorMemoryError(
          fmt::format("a tensor of {:.2f} GiB does not fit: the others of this rank take {:.2f} GiB, and all may take "
                      "{:.2f} GiB (what max_memory_gib leaves beside the program)",
                      static_cast<double>(num_bytes) / (1 << 30), gib(taken), gib(most)));
    void* const block = c10::alloc_cpu(num_bytes);
    if (block != nullptr) {
      bytes_taken += size_of(block);
      use_large_pages(block, num_bytes);
    }
    return {block, block, &release, c10::Device(c10::DeviceType::CPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, std::size_t count) const override { default_copy_data(to, from, count); }
};

}  // namespace

void use_large_pages(void* block, std::size_t num_bytes) {
#ifdef MADV_HUGEPAGE
  constexpr std::size_t kPage = 2 << 20;
  if (num_bytes < kLargeBlockBytes) return;
  const auto begin = reinterpret_cast<std::uintptr_t>(block);
  const std::uintptr_t first = (begin + kPage - 1) / kPage * kPage, end = (begin + num_bytes) / kPage * kPage;
  // Where the system has none, or gives none, nothing is lost.
  if (first < end) ::madvise(reinterpret_cast<void*>(first), end - first, MADV_HUGEPAGE);
#else
  static_cast<void>(block), static_cast<void>(num_bytes);
#endif
}

void limit_tensor_memory(std::int64_t bytes) {
  most_bytes = bytes;
  static std::once_flag once;
  std::call_once(once, [] {
    static BoundedAllocator allocator;
    c10::SetCPUAllocator(&allocator, /*priority=*/1);
  });
}

std::int64_t tensor_memory_bytes() { return bytes_taken; }

}  // namespace spectrace
