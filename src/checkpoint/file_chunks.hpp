#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "mapped_region.hpp"
#include "spectrace/checkpoint/region_reader.hpp"
#include "spectrace/core/error.hpp"

namespace spectrace {

/// Bytes of contiguous rows that are mapped or read at a time.
inline constexpr std::uint64_t chunk_bytes = 1u << 20;

/// What is wrong with a checkpoint's disk is this model's failure, not the run's.
template <typename F>
void of_the_model(F&& f) {
  try {
    f();
  } catch (const InputError& error) {
    throw InputError(ErrorKind::model, error.problem(), error.why(), error.suggestion());
  }
}

inline void read_at(const RegionSource& source, std::uint64_t offset, std::span<std::byte> bytes) {
  of_the_model([&] { source.file.read_at(offset, bytes); });
  source.bytes_read += bytes.size();
}

/// Calls visit(bytes) for one chunk of [offset, offset + size) after the other, each of `most` bytes but for the last.
template <typename Visit>
void visit_chunks(const RegionSource& source, std::uint64_t offset, std::uint64_t size, std::uint64_t most,
                  const Visit& visit) {
  std::unique_ptr<std::byte[]> buffer;
  if (!source.use_mmap) buffer = std::make_unique_for_overwrite<std::byte[]>(std::min(most, size));
  for (std::uint64_t done = 0; done < size;) {
    const std::uint64_t num_bytes = std::min(most, size - done);
    if (source.use_mmap) {
      of_the_model([&] {
        const MappedRegion region(source.file, offset + done, num_bytes);
        visit(std::span(region.data(), num_bytes));
        region.expect_whole();
      });
      source.bytes_read += num_bytes;
    } else {
      const std::span bytes(buffer.get(), num_bytes);
      read_at(source, offset + done, bytes);
      visit(std::span<const std::byte>(bytes));
    }
    done += num_bytes;
  }
}

template <typename Visit>
void visit_chunks(const RegionSource& source, std::uint64_t offset, std::uint64_t size, const Visit& visit) {
  visit_chunks(source, offset, size, chunk_bytes, visit);
}

}  // namespace spectrace
