#include <algorithm>
#include <cstddef>
#include <vector>

#include "spectrace/checkpoint/tensor_store.hpp"
#include "spectrace/core/error.hpp"
#include "spectrace/core/hash.hpp"
#include "spectrace/core/parallel.hpp"

namespace spectrace {
namespace {

/// Small, because every thread holds one in memory; 8 bytes of hash for each are nothing all the same.
constexpr std::uint64_t segment_bytes = 4u << 20;

struct Segment {
  std::size_t file;
  std::uint64_t offset, size_bytes;
};

}  // namespace

std::string digest_weights(const TensorStore& store) {
  std::vector<FileReader> readers;
  std::vector<Segment> segments;
  Sha256 sha;
  for (const auto& file : store.files()) {
    const auto& reader = readers.emplace_back(file.path);
    if (reader.size_bytes() != file.size_bytes)
      throw InputError(
          ErrorKind::io, "'" + file.path.string() + "' has changed while the program runs",
          "it had " + std::to_string(file.size_bytes) + " bytes, now " + std::to_string(reader.size_bytes()));
    for (std::uint64_t at = 0; at < file.size_bytes; at += segment_bytes)
      segments.push_back({readers.size() - 1, at, std::min(segment_bytes, file.size_bytes - at)});
    // The name alone: where the checkpoint lies does not change what it is.
    sha.update(file.path.filename().string() + "\n" + std::to_string(file.size_bytes) + "\n");
  }
  std::vector<std::uint64_t> hashes(segments.size());
  parallel_for(static_cast<std::int64_t>(segments.size()), [&](std::int64_t i) {
    const auto& segment = segments[static_cast<std::size_t>(i)];
    thread_local std::vector<std::byte> buffer;
    buffer.resize(segment.size_bytes);
    readers[segment.file].read_at(segment.offset, buffer);
    hashes[static_cast<std::size_t>(i)] = xxh3_64(buffer);
  });
  sha.update(std::as_bytes(std::span(hashes)));
  return sha.hex_digest();
}

}  // namespace spectrace
