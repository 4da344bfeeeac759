#pragma once

#include <cstddef>
#include <cstdint>

#include "spectrace/checkpoint/tensor_info.hpp"

namespace spectrace {

/// Elements [0, count) at `source` (any alignment, little-endian) to `out`. Exact, but for float64 to float32, which
/// rounds to nearest even. To: float or double. @pre is_floating(type)
template <typename To>
void convert_elements(StorageType type, const std::byte* source, std::int64_t count, To* out);

/// A block of rows x cols elements; element (i, j) lies at element i * stride_i + j * stride_j of the source and goes
/// to element i * out_stride_i + j * out_stride_j of the target; all strides in elements.
struct ElementBlock {
  std::int64_t rows, cols;
  std::int64_t stride_i, stride_j;
  std::int64_t out_stride_i, out_stride_j;
};
/// Copies the elements as they are. @pre type is not `other`
void copy_block(StorageType type, const std::byte* source, const ElementBlock& block, std::byte* out);

/// How many of the values are NaN or infinite.
template <typename To>
std::int64_t count_non_finite(const To* values, std::int64_t count);

}  // namespace spectrace
