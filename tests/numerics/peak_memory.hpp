#pragma once

#include <ATen/ATen.h>

#include <algorithm>
#include <cstdint>
#include <functional>

namespace spectrace {
namespace detail {

struct CountingAllocator final : at::Allocator {
  explicit CountingAllocator(at::Allocator* base) : base_(base) {}

  at::DataPtr allocate(std::size_t size) override {
    current += static_cast<std::int64_t>(size);
    peak = std::max(peak, current);
    auto* block = new Block{base_->allocate(size), this, static_cast<std::int64_t>(size)};
    return {block->data.get(), block, &release, at::Device(at::kCPU)};
  }
  void copy_data(void* destination, const void* source, std::size_t count) const override {
    default_copy_data(destination, source, count);
  }

  std::int64_t current = 0, peak = 0;

 private:
  struct Block {
    at::DataPtr data;
    CountingAllocator* owner;
    std::int64_t size;
  };
  static void release(void* context) {
    auto* block = static_cast<Block*>(context);
    block->owner->current -= block->size;
    delete block;
  }

  at::Allocator* base_;
};

}  // namespace detail

/// The most bytes of tensors that were alive at once during f, on top of those from before. f has to run in one thread
/// and leave no tensor behind.
inline std::int64_t peak_tensor_bytes(const std::function<void()>& f) {
  at::Allocator* const before = c10::GetAllocator(at::kCPU);
  detail::CountingAllocator counting(before);
  c10::SetAllocator(at::kCPU, &counting, 1);
  f();
  c10::SetAllocator(at::kCPU, before, 1);
  return counting.peak;
}

}  // namespace spectrace
