#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace spectrace {

/// Element types a checkpoint may hold. Integers are read over (buffers such as GPT-2's masks), never computed with.
/// float8_e4m3 and float8_e5m2 are those of the OCP's 8-bit floating point (torch's float8_e4m3fn and float8_e5m2);
/// float8_e8m0 are bare powers of two, which only scales are made of; mxfp4 are 4 bits of e2m1 times a power of two for
/// each 32 elements (OCP Microscaling Formats 1.0).
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
  float8_e4m3,
  float8_e5m2,
  float8_e4m3fnuz,
  float8_e5m2fnuz,
  float8_e8m0,
  mxfp4,
  other
};

const char* name(StorageType type);
/// Bits an element; 0 for `other`.
std::int64_t element_size_bits(StorageType type);
/// Bytes an element; 0 for `other`, and for mxfp4, which has half of one.
std::int64_t element_size_bytes(StorageType type);
/// float64, float32, float16, bfloat16, float8_e4m3, float8_e5m2, mxfp4: the types that can be read.
bool is_floating(StorageType type);
/// float64, float32, float16, bfloat16: floating numbers that need no scales to have the range of weights.
bool is_plain_floating(StorageType type);

/// The scales that a tensor's elements are multiplied by: one for each block of its last two dimensions. A tensor in
/// the checkpoint as well, which has no entry of its own beside the one that it scales.
struct BlockScales {
  std::string name;
  StorageType type = StorageType::other;        ///< float32, bfloat16, float16 or float8_e8m0
  std::int64_t block_rows = 0, block_cols = 0;  ///< those at the edges may be cut
  std::int64_t grid_rows = 0, grid_cols = 0;    ///< blocks of one matrix
  int file = 0;                                 ///< as of the tensor
  std::uint64_t offset = 0;                     ///< as of the tensor; row-major
};

/// Where one tensor lies. A header entry: nothing of its data has been read.
struct TensorInfo {
  std::string name;
  StorageType type = StorageType::other;
  std::vector<std::int64_t> shape;
  std::vector<std::int64_t> strides;  ///< in elements; row-major unless a .bin says otherwise
  int file = 0;                       ///< index into TensorStore::files()
  std::uint64_t offset = 0;           ///< of the first element, in bytes from the start of the file
  std::uint64_t size_bytes = 0;       ///< bytes from the first to past the last element
  /// Null where elements are what they say. Of mxfp4 the blocks lie along the last but one dimension: what is stored is
  /// the transpose of each matrix, rows of 4-bit elements that are multiplied 32 at a time.
  std::shared_ptr<const BlockScales> scales;

  std::int64_t num_elements() const;
  bool is_contiguous() const;
  /// Whether its numbers may need more than float32: float64, and float8 times a float32 scale.
  bool exceeds_float32() const;
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
