#include "spectrace/checkpoint/tensor_info.hpp"

#include <algorithm>

#include "spectrace/core/error.hpp"

namespace spectrace {
namespace {

/// 8 bytes an element, and a factor 16 to spare for sums of extents.
constexpr std::int64_t max_num_elements = INT64_MAX / 128;

}  // namespace

const char* name(StorageType type) {
  switch (type) {
    case StorageType::float64: return "float64";
    case StorageType::float32: return "float32";
    case StorageType::float16: return "float16";
    case StorageType::bfloat16: return "bfloat16";
    case StorageType::int64: return "int64";
    case StorageType::int32: return "int32";
    case StorageType::int16: return "int16";
    case StorageType::int8: return "int8";
    case StorageType::uint8: return "uint8";
    case StorageType::boolean: return "bool";
    case StorageType::float8_e4m3: return "float8_e4m3";
    case StorageType::float8_e5m2: return "float8_e5m2";
    case StorageType::float8_e4m3fnuz: return "float8_e4m3fnuz";
    case StorageType::float8_e5m2fnuz: return "float8_e5m2fnuz";
    case StorageType::float8_e8m0: return "float8_e8m0";
    case StorageType::mxfp4: return "mxfp4";
    case StorageType::other: break;
  }
  return "other";
}

std::int64_t element_size_bits(StorageType type) {
  switch (type) {
    case StorageType::float64:
    case StorageType::int64: return 64;
    case StorageType::float32:
    case StorageType::int32: return 32;
    case StorageType::float16:
    case StorageType::bfloat16:
    case StorageType::int16: return 16;
    case StorageType::int8:
    case StorageType::uint8:
    case StorageType::boolean:
    case StorageType::float8_e4m3:
    case StorageType::float8_e5m2:
    case StorageType::float8_e4m3fnuz:
    case StorageType::float8_e5m2fnuz:
    case StorageType::float8_e8m0: return 8;
    case StorageType::mxfp4: return 4;
    case StorageType::other: break;
  }
  return 0;
}

std::int64_t element_size_bytes(StorageType type) { return element_size_bits(type) / 8; }

bool is_plain_floating(StorageType type) {
  return type == StorageType::float64 || type == StorageType::float32 || type == StorageType::float16 ||
         type == StorageType::bfloat16;
}

bool is_floating(StorageType type) {
  return is_plain_floating(type) || type == StorageType::float8_e4m3 || type == StorageType::float8_e5m2 ||
         type == StorageType::mxfp4;
}

std::int64_t TensorInfo::num_elements() const {
  std::int64_t count = 1;
  for (const auto size : shape) count *= size;
  return count;
}

bool TensorInfo::is_contiguous() const {
  if (num_elements() == 0) return true;
  std::int64_t expected = 1;
  for (std::size_t d = shape.size(); d-- > 0;) {
    if (shape[d] == 1) continue;  // its stride is never used
    if (strides[d] != expected) return false;
    expected *= shape[d];
  }
  return true;
}

bool TensorInfo::exceeds_float32() const {
  return type == StorageType::float64 || (scales && scales->type == StorageType::float32);
}

std::optional<std::int64_t> checked_num_elements(std::span<const std::int64_t> shape) {
  if (shape.size() > kMaxDimensions) return std::nullopt;
  std::int64_t bound = 1;
  bool empty = false;
  for (const auto size : shape) {
    if (size < 0 || size > max_num_elements) return std::nullopt;
    empty = empty || size == 0;
    if (size > 1 && bound > max_num_elements / size) return std::nullopt;
    bound *= std::max<std::int64_t>(size, 1);
  }
  return empty ? 0 : bound;
}

std::optional<std::int64_t> checked_extent(std::span<const std::int64_t> shape, std::span<const std::int64_t> strides) {
  SPECTRACE_ASSERT(shape.size() == strides.size());
  std::int64_t last = 0;
  bool empty = false;
  for (std::size_t d = 0; d < shape.size(); ++d) {
    if (strides[d] < 0) return std::nullopt;
    empty = empty || shape[d] == 0;
    if (shape[d] <= 1) continue;
    std::int64_t step = 0;
    if (__builtin_mul_overflow(shape[d] - 1, strides[d], &step) || step > max_num_elements ||
        (last += step) > max_num_elements)
      return std::nullopt;
  }
  return empty ? 0 : last + 1;
}

std::vector<std::int64_t> row_major_strides(std::span<const std::int64_t> shape) {
  std::vector<std::int64_t> strides(shape.size(), 1);
  for (std::size_t d = shape.size(); d-- > 1;) strides[d - 1] = strides[d] * std::max<std::int64_t>(shape[d], 1);
  return strides;
}

std::string shape_text(std::span<const std::int64_t> shape) {
  std::string text = "[";
  for (const auto size : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(size);
  return text + "]";
}

}  // namespace spectrace
