#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>

namespace spectrace {

/// A tensor that this process may not have: what() says how much it is, what the others take and what all may take.
class TensorMemoryError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Blocks from this size on go back to the system when they are freed, and lie on large pages where it has them.
constexpr std::size_t kLargeBlockBytes = std::size_t{4} << 20;

/// Asks for large pages under a large block: its memory comes new each time it is taken, 2 MiB by one page fault
/// instead of 512. Only pages that lie wholly in it, so it takes no more than without. Smaller blocks stay as they are.
void use_large_pages(void* block, std::size_t num_bytes);

/// From now on the tensors of this process may take so many bytes on the host in all; asking for more throws
/// TensorMemoryError, before the system would have to kill the process. Those that are there already do not count.
void limit_tensor_memory(std::int64_t bytes);

/// Host bytes of the tensors that were made since the first call of limit_tensor_memory and are still there.
std::int64_t tensor_memory_bytes();

}  // namespace spectrace
