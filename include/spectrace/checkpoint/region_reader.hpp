#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "spectrace/checkpoint/tensor_info.hpp"
#include "spectrace/core/file.hpp"
#include "spectrace/core/hash.hpp"

namespace spectrace {

/// One checkpoint file as tensors are read from it.
struct RegionSource {
  const FileReader& file;
  bool use_mmap;
  std::atomic<std::uint64_t>& bytes_read;
  const FileReader* scales_file = nullptr;  ///< of a tensor that has scales
};

/// Rows [first, first + num_rows) of the tensor, converted, in row-major order; a tensor without dimensions is one row.
/// Returns how many of the values written are not finite. The stored bytes, in row-major order, are fed to `hash` if
/// that is not null: those that are converted, while they are in the cache; before them the scales of the rows, if any.
/// What has scales is each element times its block's: exact in double; in float rounded once, to nearest even (mxfp4 is
/// exact there too).
/// In memory at a time besides the destination: 1 MiB; where the rows are not contiguous, all their stored bytes.
/// To: as of convert_elements. @pre the rows exist, out has room
template <typename To>
std::int64_t read_region(const RegionSource& source, const TensorInfo& tensor, std::int64_t first,
                         std::int64_t num_rows, To* out, Xxh3* hash = nullptr);

/// Feeds the stored scales of these rows to `hash`; nothing of a tensor that has none. @pre the rows exist
void hash_scales(const RegionSource& source, const TensorInfo& tensor, std::int64_t first, std::int64_t num_rows,
                 Xxh3& hash);

/// Feeds bytes [offset, offset + size_bytes) of the file to `hash`, 1 MiB in memory at a time.
void hash_region(const RegionSource& source, std::uint64_t offset, std::uint64_t size_bytes, Xxh3& hash);

/// The stored bytes of rows [first, first + num_rows) of a tensor of any strides, in row-major order. The file is read
/// from its start to its end whatever the tensor's own order is. @pre an element has whole bytes; the rows exist
std::unique_ptr<std::byte[]> gather_region(const RegionSource& source, const TensorInfo& tensor, std::int64_t first,
                                           std::int64_t num_rows);

/// `count` elements that are in memory already, otherwise as read_region.
template <typename To>
std::int64_t convert_region(StorageType type, const std::byte* bytes, std::int64_t count, To* out, Xxh3* hash);

}  // namespace spectrace
