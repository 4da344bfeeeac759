// The loops here are written for the compiler to vectorize (no branches, no calls): they run at the speed of memory
// with SSE2 alone, so that no instruction set has to be chosen.
#include "spectrace/checkpoint/element_conversion.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

#include "spectrace/core/error.hpp"

namespace spectrace {
namespace {

struct Float64 {
  using Bits = double;
  template <typename To>
  static To convert(double value) {
    return static_cast<To>(value);
  }
};

struct Float32 {
  using Bits = float;
  template <typename To>
  static To convert(float value) {
    return static_cast<To>(value);
  }
};

/// The upper half of a float32.
struct BFloat16 {
  using Bits = std::uint16_t;
  template <typename To>
  static To convert(std::uint16_t bits) {
    return static_cast<To>(std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16));
  }
};

/// IEEE binary16: 5 exponent bits of bias 15, 10 mantissa bits.
struct Float16 {
  using Bits = std::uint16_t;
  template <typename To>
  static To convert(std::uint16_t bits) {
    constexpr std::uint32_t exponent_mask = 0x1fu << 23, rebias = (127u - 15u) << 23;
    const std::uint32_t sign = (bits & 0x8000u) << 16;
    const std::uint32_t magnitude = (bits & 0x7fffu) << 13;
    const std::uint32_t exponent = magnitude & exponent_mask;
    const std::uint32_t normal = magnitude + rebias;
    // All ones or all zeros: written as conditions these would be branches, and the loop would not be vectorized.
    const std::uint32_t is_special = -static_cast<std::uint32_t>(exponent == exponent_mask);
    const std::uint32_t is_subnormal = -static_cast<std::uint32_t>(exponent == 0);
    // Infinity and NaN keep all exponent bits set.
    const std::uint32_t not_tiny = normal + (is_special & ((128u - 16u) << 23));
    // Subnormal m * 2^-24: as the float 2^-14 * (1 + m / 2^10), minus 2^-14. Exact, and no subnormal float32 occurs.
    constexpr std::uint32_t one_exponent = 1u << 23;
    const float tiny = std::bit_cast<float>(normal + one_exponent) - std::bit_cast<float>(rebias + one_exponent);
    const std::uint32_t result = (is_subnormal & std::bit_cast<std::uint32_t>(tiny)) | (~is_subnormal & not_tiny);
    return static_cast<To>(std::bit_cast<float>(result | sign));
  }
};

/// OCP E5M2: the upper half of a float16.
struct Float8E5M2 {
  using Bits = std::uint8_t;
  template <typename To>
  static To convert(std::uint8_t bits) {
    return Float16::convert<To>(static_cast<std::uint16_t>(bits << 8));
  }
};

/// OCP E4M3: 4 exponent bits of bias 7, 3 mantissa bits; no infinity, and NaN is all ones but for the sign.
struct Float8E4M3 {
  using Bits = std::uint8_t;
  template <typename To>
  static To convert(std::uint8_t bits) {
    constexpr std::uint32_t rebias = (127u - 7u) << 23, one_exponent = 1u << 23, quiet_nan = 0x7fc00000u;
    const std::uint32_t code = bits & 0x7fu, sign = (bits & 0x80u) << 24;
    const std::uint32_t normal = (code << 20) + rebias;
    // As masks, for Float16's reasons; a subnormal m * 2^-9 in its way too: 2^-6 * (1 + m / 2^3), minus 2^-6.
    const std::uint32_t is_subnormal = -static_cast<std::uint32_t>(code < 8);
    const std::uint32_t is_nan = -static_cast<std::uint32_t>(code == 0x7f);
    const float tiny = std::bit_cast<float>(normal + one_exponent) - std::bit_cast<float>(rebias + one_exponent);
    const std::uint32_t result = (is_subnormal & std::bit_cast<std::uint32_t>(tiny)) | (~is_subnormal & normal);
    return static_cast<To>(std::bit_cast<float>(result | sign | (is_nan & quiet_nan)));
  }
};

template <typename Format>
typename Format::Bits load(const std::byte* source, std::int64_t index) {
  typename Format::Bits bits;
  std::memcpy(&bits, source + static_cast<std::size_t>(index) * sizeof(bits), sizeof(bits));
  return bits;
}

/// Calls task with the format as an empty value.
template <typename Task>
void with_format(StorageType type, const Task& task) {
  switch (type) {
    case StorageType::float64: return task(Float64{});
    case StorageType::float32: return task(Float32{});
    case StorageType::bfloat16: return task(BFloat16{});
    case StorageType::float16: return task(Float16{});
    case StorageType::float8_e4m3: return task(Float8E4M3{});
    case StorageType::float8_e5m2: return task(Float8E5M2{});
    default: SPECTRACE_ASSERT(is_floating(type) && type != StorageType::mxfp4);
  }
}

/// Calls task with an unsigned number of an element's size.
template <typename Task>
void with_bits(StorageType type, const Task& task) {
  switch (element_size_bytes(type)) {
    case 8: return task(std::uint64_t{});
    case 4: return task(std::uint32_t{});
    case 2: return task(std::uint16_t{});
    case 1: return task(std::uint8_t{});
    default: SPECTRACE_ASSERT(element_size_bytes(type) > 0);
  }
}

constexpr std::int64_t tile_size = 32;

/// @pre block.rows and block.cols <= tile_size
/// By way of a small buffer: a transposed matrix is then read and written by whole cache lines, which need not survive
/// in a cache (with rows of 2^k bytes they would not: all lie in one cache set).
template <typename Bits>
void copy_tile(const std::byte* source, const ElementBlock& block, std::byte* out) {
  Bits tile[tile_size][tile_size];
  const auto load = [&](std::int64_t i, std::int64_t j) {
    const auto element = static_cast<std::size_t>(i * block.stride_i + j * block.stride_j);
    std::memcpy(&tile[i][j], source + element * sizeof(Bits), sizeof(Bits));
  };
  const auto store = [&](std::int64_t i, std::int64_t j) {
    const auto element = static_cast<std::size_t>(i * block.out_stride_i + j * block.out_stride_j);
    std::memcpy(out + element * sizeof(Bits), &tile[i][j], sizeof(Bits));
  };
  for (std::int64_t i = 0; i < block.rows; ++i)
    for (std::int64_t j = 0; j < block.cols; ++j) load(i, j);
  if (block.out_stride_i < block.out_stride_j) {
    for (std::int64_t j = 0; j < block.cols; ++j)
      for (std::int64_t i = 0; i < block.rows; ++i) store(i, j);
  } else {
    for (std::int64_t i = 0; i < block.rows; ++i)
      for (std::int64_t j = 0; j < block.cols; ++j) store(i, j);
  }
}

}  // namespace

template <typename To>
void convert_elements(StorageType type, const std::byte* source, std::int64_t count, To* out) {
  if constexpr (sizeof(To) == 2) {
    SPECTRACE_ASSERT(type == storage_type_of<To>());
    std::memcpy(out, source, static_cast<std::size_t>(count) * sizeof(To));
  } else {
    with_format(type, [&]<typename Format>(Format) {
      for (std::int64_t i = 0; i < count; ++i) out[i] = Format::template convert<To>(load<Format>(source, i));
    });
  }
}

void copy_block(StorageType type, const std::byte* source, const ElementBlock& block, std::byte* out) {
  with_bits(type, [&]<typename Bits>(Bits) {
    constexpr auto size = static_cast<std::int64_t>(sizeof(Bits));
    for (std::int64_t i = 0; i < block.rows; i += tile_size)
      for (std::int64_t j = 0; j < block.cols; j += tile_size) {
        ElementBlock part = block;
        part.rows = std::min(tile_size, block.rows - i);
        part.cols = std::min(tile_size, block.cols - j);
        copy_tile<Bits>(source + (i * block.stride_i + j * block.stride_j) * size, part,
                        out + (i * block.out_stride_i + j * block.out_stride_j) * size);
      }
  });
}

template <typename To>
std::int64_t count_non_finite(const To* values, std::int64_t count) {
  // inf - inf and NaN - NaN are NaN, which differs from everything; all else gives 0.
  std::int64_t found = 0;
  if constexpr (sizeof(To) == 2) {
    constexpr std::uint16_t exponent = std::is_same_v<To, at::BFloat16> ? 0x7f80 : 0x7c00;
    for (std::int64_t i = 0; i < count; ++i) found += (values[i].x & exponent) == exponent;
  } else {
    for (std::int64_t i = 0; i < count; ++i) found += values[i] - values[i] != To{0};
  }
  return found;
}

template void convert_elements(StorageType, const std::byte*, std::int64_t, float*);
template void convert_elements(StorageType, const std::byte*, std::int64_t, double*);
template void convert_elements(StorageType, const std::byte*, std::int64_t, at::BFloat16*);
template void convert_elements(StorageType, const std::byte*, std::int64_t, at::Half*);
template std::int64_t count_non_finite(const float*, std::int64_t);
template std::int64_t count_non_finite(const double*, std::int64_t);
template std::int64_t count_non_finite(const at::BFloat16*, std::int64_t);
template std::int64_t count_non_finite(const at::Half*, std::int64_t);

}  // namespace spectrace
