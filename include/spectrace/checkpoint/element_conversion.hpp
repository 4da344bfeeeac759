#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "spectrace/checkpoint/tensor_info.hpp"
#include "spectrace/numerics/tensor.hpp"

namespace spectrace {

/// The type that is stored as To is in memory.
template <typename To>
constexpr StorageType storage_type_of() {
  if constexpr (std::is_same_v<To, double>) return StorageType::float64;
  if constexpr (std::is_same_v<To, float>) return StorageType::float32;
  if constexpr (std::is_same_v<To, at::BFloat16>) return StorageType::bfloat16;
  if constexpr (std::is_same_v<To, at::Half>) return StorageType::float16;
}

/// Elements [0, count) at `source` (any alignment, little-endian) to `out`. Exact, but for float64 to float32, which
/// rounds to nearest even. To: float or double, @pre is_floating(type), not mxfp4; or at::BFloat16 or at::Half, @pre of
/// this type.
template <typename To>
void convert_elements(StorageType type, const std::byte* source, std::int64_t count, To* out);

/// A block of rows x cols elements; element (i, j) lies at element i * stride_i + j * stride_j of the source and goes
/// to element i * out_stride_i + j * out_stride_j of the target; all strides in elements.
struct ElementBlock {
  std::int64_t rows, cols;
  std::int64_t stride_i, stride_j;
  std::int64_t out_stride_i, out_stride_j;
};
/// Copies the elements as they are. @pre an element has whole bytes
void copy_block(StorageType type, const std::byte* source, const ElementBlock& block, std::byte* out);

/// How many of the values are NaN or infinite.
template <typename To>
std::int64_t count_non_finite(const To* values, std::int64_t count);

}  // namespace spectrace
