#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace spectrace {

/// Element types a checkpoint may hold. Integers are read over (buffers such as GPT-2's masks), never computed with.
enum class StorageType {
  float64,
  float32,
  float16,
  bfloat16,
  int64,
  int32,
  int16,
  int8,
  uint8,
  boolean,
  float8,
  other
};

const char* name(StorageType type);
/// Bytes an element; 0 for `other`.
std::int64_t element_size_bytes(StorageType type);
/// float64, float32, float16, bfloat16: the types that can be read. Not float8: its values mean nothing without scales.
bool is_floating(StorageType type);

/// Where one tensor lies. A header entry: nothing of its data has been read.
struct TensorInfo {
  std::string name;
  StorageType type = StorageType::other;
  std::vector<std::int64_t> shape;
  std::vector<std::int64_t> strides;  ///< in elements; row-major unless a .bin says otherwise
  int file = 0;                       ///< index into TensorStore::files()
  std::uint64_t offset = 0;           ///< of the first element, in bytes from the start of the file
  std::uint64_t size_bytes = 0;       ///< bytes from the first to past the last element

  std::int64_t num_elements() const;
  bool is_contiguous() const;
};

/// Dimensions of a tensor, at most: as in torch.
inline constexpr std::size_t kMaxDimensions = 64;

/// Product of the sizes; nothing if there are more than kMaxDimensions, one is negative, or the product, zeros counted
/// as ones, leaves no room for bytes in 64 bits (so that later arithmetic on offsets and strides cannot overflow).
std::optional<std::int64_t> checked_num_elements(std::span<const std::int64_t> shape);
/// Elements from the first to past the last one of a strided tensor; nothing if a stride is negative or it overflows.
/// @pre checked_num_elements(shape) holds a value
std::optional<std::int64_t> checked_extent(std::span<const std::int64_t> shape, std::span<const std::int64_t> strides);
std::vector<std::int64_t> row_major_strides(std::span<const std::int64_t> shape);
/// "[3072, 768]"
std::string shape_text(std::span<const std::int64_t> shape);

}  // namespace spectrace
