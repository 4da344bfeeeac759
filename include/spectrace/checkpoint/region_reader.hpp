#pragma once

#include <atomic>
#include <cstdint>
#include <span>

#include "spectrace/checkpoint/tensor_info.hpp"
#include "spectrace/core/file.hpp"

namespace spectrace {

/// One checkpoint file as tensors are read from it.
struct RegionSource {
  const FileReader& file;
  bool use_mmap;
  std::atomic<std::uint64_t>& bytes_read;
};

/// Bytes that are in memory at a time besides the destination.
inline constexpr std::uint64_t region_chunk_bytes = 4u << 20;

/// Rows [first, first + num_rows) of the tensor, converted, in row-major order; a tensor without dimensions is one row.
/// Returns how many of the values written are not finite. To: float or double.
/// @pre is_floating(tensor.type), the rows exist, out has room
template <typename To>
std::int64_t read_region(const RegionSource& source, const TensorInfo& tensor, std::int64_t first,
                         std::int64_t num_rows, To* out);

}  // namespace spectrace
