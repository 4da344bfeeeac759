#include "scaled_region.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <span>
#include <vector>

#include "file_chunks.hpp"
#include "spectrace/checkpoint/element_conversion.hpp"
#include "spectrace/core/error.hpp"

namespace spectrace {
namespace {

/// Elements hashed and converted before the next ones, as of region_reader.cpp.
constexpr std::size_t scaled_block_bytes = 2048;

std::int64_t product(std::span<const std::int64_t> sizes) {
  std::int64_t result = 1;
  for (const std::int64_t size : sizes) result *= size;
  return result;
}

/// The scales of some rows, as elements of the scales' tensor.
struct ScaleRange {
  std::int64_t first = 0, count = 0;
};

/// Rows of all matrices one below the other: each row along the first dimension holds so many.
std::int64_t flat_rows_per_row(const TensorInfo& tensor) {
  const std::span shape(tensor.shape);
  return shape.size() == 2 ? 1 : product(shape.subspan(1, shape.size() - 2));
}

/// The row of scales that belongs to a row of the matrices one below the other.
std::int64_t grid_row_of(const TensorInfo& tensor, std::int64_t flat_row) {
  const BlockScales& scales = *tensor.scales;
  const std::int64_t matrix_rows = tensor.shape[tensor.shape.size() - 2];
  return flat_row / matrix_rows * scales.grid_rows + flat_row % matrix_rows / scales.block_rows;
}

ScaleRange scales_of_rows(const TensorInfo& tensor, std::int64_t first, std::int64_t num_rows) {
  if (tensor.num_elements() == 0 || num_rows == 0) return {};
  const BlockScales& scales = *tensor.scales;
  if (tensor.type == StorageType::mxfp4) {
    const std::int64_t a_matrix = scales.grid_rows * scales.grid_cols;
    return {.first = first * a_matrix, .count = num_rows * a_matrix};
  }
  const std::int64_t per_row = flat_rows_per_row(tensor);
  const std::int64_t begin = grid_row_of(tensor, first * per_row);
  const std::int64_t end = grid_row_of(tensor, (first + num_rows) * per_row - 1) + 1;
  return {.first = begin * scales.grid_cols, .count = (end - begin) * scales.grid_cols};
}

std::vector<std::byte> read_stored_scales(const RegionSource& source, const TensorInfo& tensor, const ScaleRange& range,
                                          Xxh3* hash) {
  SPECTRACE_ASSERT(tensor.scales && source.scales_file != nullptr);
  const std::int64_t size = element_size_bytes(tensor.scales->type);
  std::vector<std::byte> bytes(static_cast<std::size_t>(range.count * size));
  const RegionSource of_scales{.file = *source.scales_file, .use_mmap = false, .bytes_read = source.bytes_read};
  if (!bytes.empty()) read_at(of_scales, tensor.scales->offset + static_cast<std::uint64_t>(range.first * size), bytes);
  if (hash) hash->update(bytes);
  return bytes;
}

/// 2^(code - 127), NaN for 255: E8M0 of the OCP Microscaling Formats.
float power_of_two(std::byte code) {
  const auto exponent = std::to_integer<std::uint32_t>(code);
  constexpr std::uint32_t quiet_nan = 0x7fc00000u, two_to_minus_127 = 1u << 22;  // a subnormal
  if (exponent == 0) return std::bit_cast<float>(two_to_minus_127);
  return std::bit_cast<float>(exponent == 255 ? quiet_nan : exponent << 23);
}

template <typename To>
std::vector<To> convert_scales(StorageType type, const std::vector<std::byte>& bytes) {
  std::vector<To> scales(bytes.size() / static_cast<std::size_t>(element_size_bytes(type)));
  if (type == StorageType::float8_e8m0)
    std::transform(bytes.begin(), bytes.end(), scales.begin(), power_of_two);
  else
    convert_elements(type, bytes.data(), static_cast<std::int64_t>(scales.size()), scales.data());
  return scales;
}

/// Elements of one byte, in row-major order.
template <typename To>
std::int64_t read_bytes_by_blocks(const RegionSource& source, const TensorInfo& tensor, std::int64_t first,
                                  std::int64_t num_rows, To* out, Xxh3* hash) {
  const BlockScales& layout = *tensor.scales;
  const ScaleRange range = scales_of_rows(tensor, first, num_rows);
  const auto scales = convert_scales<To>(layout.type, read_stored_scales(source, tensor, range, hash));
  const std::int64_t columns = tensor.shape.back(), per_row = flat_rows_per_row(tensor) * columns;
  std::int64_t place = first * per_row, non_finite = 0;
  const auto convert = [&](const std::byte* bytes, std::int64_t count) {
    for (const std::byte* const end = bytes + count; bytes < end;) {
      const std::int64_t column = place % columns;
      const std::int64_t n = std::min({layout.block_cols - column % layout.block_cols, columns - column, end - bytes});
      const std::int64_t row = grid_row_of(tensor, place / columns) * layout.grid_cols - range.first;
      const To scale = scales[static_cast<std::size_t>(row + column / layout.block_cols)];
      convert_elements(tensor.type, bytes, n, out);
      for (std::int64_t i = 0; i < n; ++i) out[i] *= scale;
      non_finite += count_non_finite(out, n);
      bytes += n, out += n, place += n;
    }
  };
  const std::uint64_t offset = tensor.offset + static_cast<std::uint64_t>(place);
  visit_chunks(source, offset, static_cast<std::uint64_t>(num_rows * per_row), [&](std::span<const std::byte> chunk) {
    for (std::size_t i = 0; i < chunk.size(); i += scaled_block_bytes) {
      const auto part = chunk.subspan(i, std::min(scaled_block_bytes, chunk.size() - i));
      if (hash) hash->update(part);
      convert(part.data(), static_cast<std::int64_t>(part.size()));
    }
  });
  return non_finite;
}

constexpr std::int64_t mxfp4_block = 32;                     // elements that share a scale
constexpr std::int64_t mxfp4_block_bytes = mxfp4_block / 2;  // the first element is in a byte's lower half
constexpr std::array<float, 16> e2m1_values = {0.0F,  0.5F,  1.0F,  1.5F,  2.0F,  3.0F,  4.0F,  6.0F,
                                               -0.0F, -0.5F, -1.0F, -1.5F, -2.0F, -3.0F, -4.0F, -6.0F};

/// Stored rows [first, first + num_rows) of one matrix, each of `num_blocks` blocks, to columns of `out`
/// [num_blocks * 32, num_columns]. `scales`: of these rows.
template <typename To>
std::int64_t transpose_mxfp4(const std::byte* codes, const std::byte* scales, std::int64_t num_rows,
                             std::int64_t num_blocks, std::int64_t num_columns, To* out) {
  constexpr std::int64_t tile_rows = 16;  // a cache line of floats in each of the rows that are written
  std::array<std::array<To, tile_rows>, mxfp4_block> tile;
  std::int64_t non_finite = 0;
  for (std::int64_t first = 0; first < num_rows; first += tile_rows)
    for (std::int64_t block = 0; block < num_blocks; ++block) {
      const std::int64_t height = std::min(tile_rows, num_rows - first);
      for (std::int64_t row = 0; row < height; ++row) {
        const std::int64_t place = (first + row) * num_blocks + block;
        std::array<To, 16> values;
        const To scale = power_of_two(scales[place]);
        for (std::size_t code = 0; code < values.size(); ++code) values[code] = To{e2m1_values[code]} * scale;
        const std::byte* const bytes = codes + place * mxfp4_block_bytes;
        const auto column = static_cast<std::size_t>(row);
        for (std::size_t i = 0; i < mxfp4_block_bytes; ++i) {
          const auto both = std::to_integer<std::size_t>(bytes[i]);
          tile[2 * i][column] = values[both & 15];
          tile[2 * i + 1][column] = values[both >> 4];
        }
      }
      for (std::int64_t i = 0; i < mxfp4_block; ++i) {
        To* const begin = out + (block * mxfp4_block + i) * num_columns + first;
        std::copy_n(tile[static_cast<std::size_t>(i)].data(), height, begin);
        non_finite += count_non_finite(begin, height);
      }
    }
  return non_finite;
}

/// Matrices whose transposes are stored, one row along the first dimension each.
template <typename To>
std::int64_t read_mxfp4(const RegionSource& source, const TensorInfo& tensor, std::int64_t first, std::int64_t num_rows,
                        To* out, Xxh3* hash) {
  const BlockScales& layout = *tensor.scales;
  const auto scales = read_stored_scales(source, tensor, scales_of_rows(tensor, first, num_rows), hash);
  const std::int64_t num_blocks = layout.grid_rows, stored_rows = layout.grid_cols;
  const std::int64_t row_bytes = num_blocks * mxfp4_block_bytes, matrix_bytes = stored_rows * row_bytes;
  const std::int64_t rows_per_chunk = std::max<std::int64_t>(1, static_cast<std::int64_t>(chunk_bytes) / row_bytes);
  std::int64_t non_finite = 0;
  for (std::int64_t m = 0; m < num_rows; ++m) {
    To* const matrix = out + m * num_blocks * mxfp4_block * stored_rows;
    std::int64_t row = 0;
    visit_chunks(source, tensor.offset + static_cast<std::uint64_t>((first + m) * matrix_bytes),
                 static_cast<std::uint64_t>(matrix_bytes), static_cast<std::uint64_t>(rows_per_chunk * row_bytes),
                 [&](std::span<const std::byte> chunk) {
                   if (hash) hash->update(chunk);
                   const std::int64_t height = static_cast<std::int64_t>(chunk.size()) / row_bytes;
                   const std::byte* const of_rows = scales.data() + (m * stored_rows + row) * num_blocks;
                   non_finite += transpose_mxfp4(chunk.data(), of_rows, height, num_blocks, stored_rows, matrix + row);
                   row += height;
                 });
  }
  return non_finite;
}

}  // namespace

template <typename To>
std::int64_t read_scaled_region(const RegionSource& source, const TensorInfo& tensor, std::int64_t first,
                                std::int64_t num_rows, To* out, Xxh3* hash) {
  if constexpr (sizeof(To) == 2) {
    SPECTRACE_ASSERT(sizeof(To) > 2);
    return 0;
  } else {
    if (tensor.type == StorageType::mxfp4) return read_mxfp4(source, tensor, first, num_rows, out, hash);
    return read_bytes_by_blocks(source, tensor, first, num_rows, out, hash);
  }
}

void hash_scales(const RegionSource& source, const TensorInfo& tensor, std::int64_t first, std::int64_t num_rows,
                 Xxh3& hash) {
  if (tensor.scales) read_stored_scales(source, tensor, scales_of_rows(tensor, first, num_rows), &hash);
}

template std::int64_t read_scaled_region(const RegionSource&, const TensorInfo&, std::int64_t, std::int64_t, float*,
                                         Xxh3*);
template std::int64_t read_scaled_region(const RegionSource&, const TensorInfo&, std::int64_t, std::int64_t, double*,
                                         Xxh3*);
template std::int64_t read_scaled_region(const RegionSource&, const TensorInfo&, std::int64_t, std::int64_t,
                                         at::BFloat16*, Xxh3*);
template std::int64_t read_scaled_region(const RegionSource&, const TensorInfo&, std::int64_t, std::int64_t, at::Half*,
                                         Xxh3*);

}  // namespace spectrace
