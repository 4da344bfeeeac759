#include "spectrace/numerics/tensor_memory.hpp"

#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/alloc_cpu.h>
#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <iterator>
#include <mutex>
#include <vector>

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

/// Large blocks that are free: a system takes longer to clear a matrix' memory than to convert the matrix. They are
/// kept as far as tensors have taken as much before, so a process grows by them a little at most; and the system may
/// take their pages back when it needs some.
class FreeBlocks {
 public:
  /// One of about so many bytes, the last one that became free; null.
  void* take(std::int64_t num_bytes) {
    const std::scoped_lock lock(mutex_);
    const auto found = std::find_if(blocks_.rbegin(), blocks_.rend(), [&](const Block& block) {
      return block.size >= num_bytes && block.size <= num_bytes + num_bytes / 16;
    });
    if (found == blocks_.rend()) return nullptr;
    void* const place = found->place;
    bytes_ -= found->size;
    blocks_.erase(std::next(found).base());
    return place;
  }

  /// Keeps the block, or frees it.
  void put(void* place, std::int64_t size) {
#if defined(MADV_FREE) && !defined(__SANITIZE_ADDRESS__)  // that is to see whoever uses a block after it is free
    if (size >= static_cast<std::int64_t>(kLargeBlockBytes)) {
      constexpr std::uintptr_t kPage = 4096;
      const auto begin = reinterpret_cast<std::uintptr_t>(place);
      const std::uintptr_t first = (begin + kPage - 1) / kPage * kPage,
                           end = (begin + static_cast<std::uintptr_t>(size)) / kPage * kPage;
      ::madvise(reinterpret_cast<void*>(first), end - first, MADV_FREE);
      const std::scoped_lock lock(mutex_);
      blocks_.push_back({place, size});
      bytes_ += size;
      return;
    }
#endif
    static_cast<void>(size);
    c10::free_cpu(place);
  }

  std::int64_t bytes() const { return bytes_; }

  /// Frees the oldest ones until those that are left and what tensors take come to `most` bytes.
  void shrink_to(std::int64_t most) {
    const std::scoped_lock lock(mutex_);
    std::size_t count = 0;
    for (; count < blocks_.size() && bytes_taken + bytes_ > most; ++count) {
      bytes_ -= blocks_[count].size;
      c10::free_cpu(blocks_[count].place);
    }
    blocks_.erase(blocks_.begin(), blocks_.begin() + static_cast<std::ptrdiff_t>(count));
  }

 private:
  struct Block {
    void* place;
    std::int64_t size;
  };
  std::mutex mutex_;
  std::vector<Block> blocks_;  // the oldest first
  std::atomic<std::int64_t> bytes_ = 0;
};

FreeBlocks& free_blocks() {
  static auto* const blocks = new FreeBlocks;  // tensors may be freed as late as there is a process
  return *blocks;
}

std::atomic<std::int64_t> most_ever_taken{0};

void count(void* block) {
  const std::int64_t taken = bytes_taken += size_of(block);
  std::int64_t most = most_ever_taken;
  while (taken > most && !most_ever_taken.compare_exchange_weak(most, taken)) {
  }
}

void release(void* block) {
  const std::int64_t size = size_of(block);
  bytes_taken -= size;
  free_blocks().put(block, size);
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
    void* block = nullptr;
    const auto size = static_cast<std::int64_t>(num_bytes);
    if (num_bytes >= kLargeBlockBytes)
      block = take_large(size);
    else if (taken + size + free_blocks().bytes() > most)
      free_blocks().shrink_to(most - size);
    if (block == nullptr) {
      block = c10::alloc_cpu(num_bytes);
      if (block != nullptr) use_large_pages(block, num_bytes);
    }
    if (block != nullptr) count(block);
    return {block, block, &release, c10::Device(c10::DeviceType::CPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, std::size_t count) const override { default_copy_data(to, from, count); }

 private:
  /// A free block; null if there is none: then as many are freed as it takes room.
  static void* take_large(std::int64_t num_bytes) {
    if (void* const block = free_blocks().take(num_bytes)) return block;
    const std::int64_t most_ever = most_ever_taken;
    // A sixteenth more than ever: small ones would drive the largest out.
    const std::int64_t most = std::min<std::int64_t>(most_ever + most_ever / 16, most_bytes);
    free_blocks().shrink_to(std::max<std::int64_t>(most - num_bytes, bytes_taken));
    return nullptr;
  }
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

void free_unused_tensor_memory() { free_blocks().shrink_to(0); }

}  // namespace spectrace
