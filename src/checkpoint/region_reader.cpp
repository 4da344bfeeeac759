#include "spectrace/checkpoint/region_reader.hpp"

#include <algorithm>
#include <memory>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "file_chunks.hpp"
#include "scaled_region.hpp"
#include "spectrace/checkpoint/element_conversion.hpp"
#include "spectrace/core/error.hpp"

namespace spectrace {
namespace {

/// Elements hashed, converted and looked at before the next ones: input and output stay in the L1 cache. With 8192 the
/// hash makes reading a mapped file 10 % slower, with 2048 it is 2 %.
constexpr std::int64_t block_elements = 2048;
/// Bytes between two wanted pieces from which on two reads beat one: about what is read in the time of a system call.
constexpr std::int64_t worthwhile_gap_bytes = 16384;
/// Bytes that are read at a time around the pieces of strided rows.
constexpr std::uint64_t window_bytes = 4u << 20;

template <typename To>
std::int64_t read_contiguous(const RegionSource& source, StorageType type, std::uint64_t offset, std::int64_t count,
                             To* out, Xxh3* hash) {
  const std::int64_t size = element_size_bytes(type);
  const bool same_type = type == storage_type_of<To>();
  std::int64_t non_finite = 0;
  if (source.use_mmap || !same_type) {
    visit_chunks(source, offset, static_cast<std::uint64_t>(count * size), [&](std::span<const std::byte> bytes) {
      const std::int64_t n = static_cast<std::int64_t>(bytes.size()) / size;
      non_finite += convert_region(type, bytes.data(), n, out, hash);
      out += n;
    });
    return non_finite;
  }
  const std::int64_t per_chunk = static_cast<std::int64_t>(chunk_bytes) / size;
  for (std::int64_t i = 0; i < count; i += per_chunk) {
    const std::span chunk(out + i, static_cast<std::size_t>(std::min(per_chunk, count - i)));
    read_at(source, offset + static_cast<std::uint64_t>(i * size), std::as_writable_bytes(chunk));
    if (hash) hash->update(std::as_bytes(chunk));
    non_finite += count_non_finite(chunk.data(), static_cast<std::int64_t>(chunk.size()));
  }
  return non_finite;
}

/// Bytes of a file around the place last asked for.
class ReadWindow {
 public:
  /// Reads up to `end`, and past what is asked for if `ahead` bytes follow closely.
  ReadWindow(const RegionSource& source, std::uint64_t end, std::uint64_t ahead)
      : source_(source), end_(end), ahead_(ahead) {}

  /// @pre size <= window_bytes
  const std::byte* get(std::uint64_t offset, std::uint64_t size) {
    SPECTRACE_ASSERT(size <= window_bytes && offset + size <= end_);
    if (offset < begin_ || offset + size > begin_ + filled_) {
      filled_ = std::max(size, std::min({ahead_, window_bytes, end_ - offset}));
      buffer_.resize(std::max<std::size_t>(buffer_.size(), filled_));
      read_at(source_, offset, std::span(buffer_).first(filled_));
      begin_ = offset;
    }
    return buffer_.data() + (offset - begin_);
  }

 private:
  const RegionSource& source_;
  std::uint64_t end_, ahead_, begin_ = 0, filled_ = 0;
  std::vector<std::byte> buffer_;
};

struct Dimension {
  std::int64_t size, stride, out_stride;
};

/// The dimensions with more than one index, those that step farthest through the file first: visited in this order,
/// the file is read from its start to its end whatever the tensor's own order is. At least two.
std::vector<Dimension> file_order(const TensorInfo& tensor, std::int64_t num_rows) {
  auto shape = tensor.shape;
  if (!shape.empty()) shape[0] = num_rows;
  const auto out_strides = row_major_strides(shape);
  std::vector<Dimension> dimensions;
  for (std::size_t d = 0; d < shape.size(); ++d)
    if (shape[d] != 1) dimensions.push_back({shape[d], tensor.strides[d], out_strides[d]});
  std::stable_sort(dimensions.begin(), dimensions.end(),
                   [](const Dimension& a, const Dimension& b) { return a.stride > b.stride; });
  while (dimensions.size() < 2) dimensions.insert(dimensions.begin(), {1, 0, 0});
  return dimensions;
}

/// Reads the plane of the last two dimensions (in file order) in blocks that fit a chunk.
class PlaneReader {
 public:
  PlaneReader(StorageType type, const Dimension& rows, const Dimension& cols)
      : type_(type), rows_(rows), cols_(cols), element_size_(element_size_bytes(type)) {
    const std::int64_t chunk = static_cast<std::int64_t>(window_bytes) / element_size_;
    const std::int64_t gap = worthwhile_gap_bytes / element_size_;
    cols_per_block_ = 1;
    if (cols.stride <= gap)
      cols_per_block_ = std::min(cols.size, (chunk - 1) / std::max<std::int64_t>(cols.stride, 1) + 1);
    const std::int64_t row_extent = (cols_per_block_ - 1) * cols.stride + 1;
    rows_per_block_ = 1;
    if (cols_per_block_ == cols.size && rows.stride - row_extent <= gap)
      rows_per_block_ = std::min(rows.size, (chunk - row_extent) / std::max<std::int64_t>(rows.stride, 1) + 1);
  }

  /// Whether it pays to read on into the next plane, `plane_stride` elements further.
  bool reads_ahead(std::int64_t plane_stride) const {
    const std::int64_t extent = (rows_.size - 1) * rows_.stride + (cols_.size - 1) * cols_.stride + 1;
    return rows_per_block_ == rows_.size && cols_per_block_ == cols_.size &&
           (plane_stride - extent) * element_size_ <= worthwhile_gap_bytes;
  }

  void read(ReadWindow& window, std::uint64_t offset, std::byte* out) const {
    for (std::int64_t i = 0; i < rows_.size; i += rows_per_block_)
      for (std::int64_t j = 0; j < cols_.size; j += cols_per_block_) {
        const ElementBlock block{.rows = std::min(rows_per_block_, rows_.size - i),
                                 .cols = std::min(cols_per_block_, cols_.size - j),
                                 .stride_i = rows_.stride,
                                 .stride_j = cols_.stride,
                                 .out_stride_i = rows_.out_stride,
                                 .out_stride_j = cols_.out_stride};
        const std::int64_t extent = (block.rows - 1) * block.stride_i + (block.cols - 1) * block.stride_j + 1;
        const std::byte* bytes =
            window.get(offset + static_cast<std::uint64_t>((i * rows_.stride + j * cols_.stride) * element_size_),
                       static_cast<std::uint64_t>(extent * element_size_));
        copy_block(type_, bytes, block, out + (i * rows_.out_stride + j * cols_.out_stride) * element_size_);
      }
  }

 private:
  StorageType type_;
  Dimension rows_, cols_;
  std::int64_t element_size_, cols_per_block_, rows_per_block_;
};

/// @pre there are elements
void read_strided(const RegionSource& source, const TensorInfo& tensor, std::int64_t first, std::int64_t num_rows,
                  std::byte* out) {
  const std::int64_t element_size = element_size_bytes(tensor.type);
  auto outer = file_order(tensor, num_rows);
  const Dimension cols = outer.back(), rows = outer[outer.size() - 2];
  outer.resize(outer.size() - 2);
  const PlaneReader plane(tensor.type, rows, cols);
  const std::int64_t first_element = tensor.shape.empty() ? 0 : first * tensor.strides[0];
  const std::uint64_t offset = tensor.offset + static_cast<std::uint64_t>(first_element * element_size);
  const bool ahead = !outer.empty() && plane.reads_ahead(outer.back().stride);
  ReadWindow window(source, tensor.offset + tensor.size_bytes, ahead ? window_bytes : 0);

  std::vector<std::int64_t> index(outer.size(), 0);
  for (;;) {
    std::int64_t from = 0, to = 0;
    for (std::size_t d = 0; d < outer.size(); ++d) {
      from += index[d] * outer[d].stride;
      to += index[d] * outer[d].out_stride;
    }
    plane.read(window, offset + static_cast<std::uint64_t>(from * element_size), out + to * element_size);
    std::size_t d = outer.size();
    while (d > 0 && ++index[d - 1] == outer[d - 1].size) index[--d] = 0;
    if (d == 0) return;
  }
}

/// @pre the rows exist
std::int64_t count_elements(const TensorInfo& tensor, std::int64_t first, std::int64_t num_rows) {
  SPECTRACE_ASSERT(first >= 0 && num_rows >= 0);
  SPECTRACE_ASSERT(first + num_rows <= (tensor.shape.empty() ? 1 : tensor.shape[0]));
  std::int64_t count = num_rows;
  for (std::size_t d = 1; d < tensor.shape.size(); ++d) count *= tensor.shape[d];
  return count;
}

}  // namespace

template <typename To>
std::int64_t convert_region(StorageType type, const std::byte* bytes, std::int64_t count, To* out, Xxh3* hash) {
  const std::int64_t size = element_size_bytes(type);
  std::int64_t non_finite = 0;
  for (std::int64_t i = 0; i < count; i += block_elements) {
    const std::int64_t n = std::min(block_elements, count - i);
    if (hash) hash->update({bytes + i * size, static_cast<std::size_t>(n * size)});
    convert_elements(type, bytes + i * size, n, out + i);
    non_finite += count_non_finite(out + i, n);
  }
  return non_finite;
}

template <typename To>
std::int64_t read_region(const RegionSource& source, const TensorInfo& tensor, std::int64_t first,
                         std::int64_t num_rows, To* out, Xxh3* hash) {
  SPECTRACE_ASSERT(is_floating(tensor.type));
  const std::int64_t count = count_elements(tensor, first, num_rows);
  if (count == 0) return 0;
  if (tensor.scales) return read_scaled_region(source, tensor, first, num_rows, out, hash);
  if (!tensor.is_contiguous())
    return convert_region(tensor.type, gather_region(source, tensor, first, num_rows).get(), count, out, hash);
  const std::int64_t skipped = first * (count / num_rows) * element_size_bytes(tensor.type);
  return read_contiguous(source, tensor.type, tensor.offset + static_cast<std::uint64_t>(skipped), count, out, hash);
}

void hash_region(const RegionSource& source, std::uint64_t offset, std::uint64_t size_bytes, Xxh3& hash) {
  visit_chunks(source, offset, size_bytes, [&](std::span<const std::byte> bytes) { hash.update(bytes); });
}

std::unique_ptr<std::byte[]> gather_region(const RegionSource& source, const TensorInfo& tensor, std::int64_t first,
                                           std::int64_t num_rows) {
  SPECTRACE_ASSERT(tensor.type != StorageType::other);
  const std::int64_t count = count_elements(tensor, first, num_rows);
  auto bytes =
      std::make_unique_for_overwrite<std::byte[]>(static_cast<std::size_t>(count * element_size_bytes(tensor.type)));
  if (count > 0) read_strided(source, tensor, first, num_rows, bytes.get());
  return bytes;
}

template std::int64_t read_region(const RegionSource&, const TensorInfo&, std::int64_t, std::int64_t, float*, Xxh3*);
template std::int64_t read_region(const RegionSource&, const TensorInfo&, std::int64_t, std::int64_t, double*, Xxh3*);
template std::int64_t read_region(const RegionSource&, const TensorInfo&, std::int64_t, std::int64_t, at::BFloat16*,
                                  Xxh3*);
template std::int64_t read_region(const RegionSource&, const TensorInfo&, std::int64_t, std::int64_t, at::Half*, Xxh3*);
template std::int64_t convert_region(StorageType, const std::byte*, std::int64_t, float*, Xxh3*);
template std::int64_t convert_region(StorageType, const std::byte*, std::int64_t, double*, Xxh3*);
template std::int64_t convert_region(StorageType, const std::byte*, std::int64_t, at::BFloat16*, Xxh3*);
template std::int64_t convert_region(StorageType, const std::byte*, std::int64_t, at::Half*, Xxh3*);

}  // namespace spectrace
