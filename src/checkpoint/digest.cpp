#include <algorithm>
#include <memory>
#include <new>
#include <stdexcept>

#include "spectrace/checkpoint/region_reader.hpp"
#include "spectrace/checkpoint/tensor_digests.hpp"
#include "spectrace/checkpoint/tensor_store.hpp"
#include "spectrace/core/error.hpp"
#include "spectrace/core/hash.hpp"
#include "spectrace/core/parallel.hpp"

namespace spectrace {
namespace {

/// Whether the segments lie in the file as they are. A view whose elements have no known size counts as it lies.
bool lies_in_order(const TensorInfo& tensor) { return tensor.type == StorageType::other || tensor.is_contiguous(); }

}  // namespace

std::size_t TensorStore::index_of(const TensorInfo& tensor) const {
  const TensorInfo* found = find(tensor.name);
  SPECTRACE_ASSERT(found != nullptr);
  return static_cast<std::size_t>(found - tensors_.data());
}

void TensorStore::note_segment(const TensorInfo& tensor, std::int64_t segment, std::uint64_t hash) const {
  if (digests_->add(index_of(tensor), segment, hash)) return;
  const auto place = segment_bytes(tensor, segment);
  throw InputError(ErrorKind::model,
                   "'" + source_of(tensor).file.path().string() + "': tensor '" + tensor.name +
                       "' has changed while it was being read",
                   "bytes " + std::to_string(place.first) + " to " + std::to_string(place.first + place.size) +
                       " of it are not what they were when they were read before",
                   "Copy the checkpoint to where nobody writes to it, or run again when nobody does.");
}

std::optional<std::string> TensorStore::digest(const TensorInfo& tensor) const {
  return digests_->digest(index_of(tensor));
}

std::string TensorStore::read_digest(const TensorInfo& tensor) const {
  const std::size_t index = index_of(tensor);
  if (const auto known = digests_->digest(index)) return *known;
  hash_segments(tensor, digests_->unseen(index));
  return digests_->digest(index).value();
}

std::vector<std::uint64_t> TensorStore::read_segment_hashes(const TensorInfo& tensor, std::int64_t first,
                                                            std::int64_t last) const {
  const std::size_t index = index_of(tensor);
  auto segments = digests_->unseen(index);
  std::erase_if(segments, [=](std::int64_t segment) { return segment < first || segment >= last; });
  hash_segments(tensor, segments);
  return digests_->hashes(index, first, last);
}

void TensorStore::hash_segments(const TensorInfo& tensor, const std::vector<std::int64_t>& segments) const {
  const RegionSource source = source_of(tensor);
  try {
    const auto num_segments = static_cast<std::int64_t>(segments.size());
    if (lies_in_order(tensor)) {
      parallel_for(num_segments, [&](std::int64_t task) {
        const std::int64_t segment = segments[static_cast<std::size_t>(task)];
        const auto place = segment_bytes(tensor, segment);
        Xxh3 hash;
        if (tensor.scales) {
          const std::int64_t height = segment_rows(tensor), row = segment * height;
          hash_scales(source, tensor, row, std::min(height, tensor.shape[0] - row), hash);
        }
        hash_region(source, tensor.offset + place.first, place.size, hash);
        note_segment(tensor, segment, hash.value());
      });
    } else {
      const std::int64_t height = segment_rows(tensor), slab = segments_per_slab(tensor);
      for (std::int64_t next = 0; next < num_segments;) {
        const std::int64_t begin = next, first = segments[static_cast<std::size_t>(begin)];
        while (next < num_segments && segments[static_cast<std::size_t>(next)] < first + slab) ++next;
        const std::int64_t last = segments[static_cast<std::size_t>(next - 1)];
        const std::int64_t end_row = std::min(tensor.shape[0], (last + 1) * height);
        const auto bytes = gather_region(source, tensor, first * height, end_row - first * height);
        const std::uint64_t skipped = segment_bytes(tensor, first).first;
        parallel_for(next - begin, [&](std::int64_t task) {
          const std::int64_t segment = segments[static_cast<std::size_t>(begin + task)];
          const auto place = segment_bytes(tensor, segment);
          Xxh3 hash;
          hash.update({bytes.get() + (place.first - skipped), place.size});
          note_segment(tensor, segment, hash.value());
        });
      }
    }
  } catch (const std::bad_alloc&) {
    throw InputError(ErrorKind::model, "'" + source.file.path().string() + "': tensor '" + tensor.name + "' of shape " +
                                           shape_text(tensor.shape) + " does not fit into memory");
  }
}

std::string TensorStore::fingerprint() const {
  std::string facts;
  for (const auto& file : files_) {
    // The only byte that no file name holds ends it.
    facts += file.path.filename().string() + '\0';
    facts += std::to_string(file.size_bytes) + " " + std::to_string(file.modified_ns) + " " +
             std::to_string(file.changed_ns) + " " + std::to_string(file.inode) + "\n";
  }
  return sha256_hex(facts);
}

void TensorStore::expect_unchanged() const {
  for (const auto& reader : readers_)
    if (const auto change = reader->find_change())
      throw InputError(ErrorKind::model,
                       "'" + reader->path().string() + "': the checkpoint was changed while it was being read", *change,
                       "Copy the checkpoint to where nobody writes to it, or run again when nobody does.");
}

std::string digest_weights(const TensorStore& store) {
  Sha256 sha;
  for (const auto& tensor : store.tensors()) sha.update(digest_lines(tensor.name, store.read_digest(tensor)));
  return sha.hex_digest();
}

}  // namespace spectrace
