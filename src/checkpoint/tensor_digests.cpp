#include "spectrace/checkpoint/tensor_digests.hpp"

#include <algorithm>
#include <array>
#include <span>

#include "spectrace/core/error.hpp"
#include "spectrace/core/hash.hpp"

namespace spectrace {
namespace {

/// Small enough that all threads find work in one tensor, and that a thread holds little; large enough that the 8 bytes
/// of hash and the call for each are nothing.
constexpr std::int64_t target_bytes = 1 << 20;
/// Bounds what a tensor of another order takes beside its destination; each slab may go over the tensor's whole file.
constexpr std::int64_t slab_bytes = 64 << 20;

/// What the segments are cut from.
struct Rows {
  std::int64_t count = 0, size_bytes = 0;
};

Rows rows_of(const TensorInfo& tensor) {
  // The size of an element is not known: the bytes as they lie.
  if (tensor.type == StorageType::other) return {static_cast<std::int64_t>(tensor.size_bytes), 1};
  std::int64_t per_row = 1;
  for (std::size_t d = 1; d < tensor.shape.size(); ++d) per_row *= tensor.shape[d];
  // Of mxfp4 a row of a matrix, or more, is whole bytes: its blocks have 32 elements.
  Rows rows{.count = tensor.shape.empty() ? 1 : tensor.shape[0],
            .size_bytes = per_row * element_size_bits(tensor.type) / 8};
  if (rows.size_bytes == 0) rows.count = 0;
  return rows;
}

std::int64_t rows_of_segment(const Rows& rows) {
  return std::max<std::int64_t>(1, target_bytes / std::max<std::int64_t>(1, rows.size_bytes));
}

/// What the bytes alone do not say.
std::string facts_of(const TensorInfo& tensor) {
  std::string facts = std::string(name(tensor.type)) + " " + shape_text(tensor.shape);
  if (const auto& scales = tensor.scales)
    facts += std::string(" times ") + name(scales->type) + " of blocks " +
             shape_text(std::array{scales->block_rows, scales->block_cols});
  return facts + "\n";
}

}  // namespace

std::int64_t segment_rows(const TensorInfo& tensor) { return rows_of_segment(rows_of(tensor)); }

std::int64_t num_segments(const TensorInfo& tensor) {
  const Rows rows = rows_of(tensor);
  const std::int64_t height = rows_of_segment(rows);
  return rows.count / height + (rows.count % height != 0);
}

SegmentRange segments_of_rows(const TensorInfo& tensor, std::int64_t first, std::int64_t last) {
  const std::int64_t height = segment_rows(tensor);
  return {first / height, (last - 1) / height + 1};
}

SegmentBytes segment_bytes(const TensorInfo& tensor, std::int64_t segment) {
  const Rows rows = rows_of(tensor);
  const std::int64_t height = rows_of_segment(rows), first = segment * height;
  SPECTRACE_ASSERT(segment >= 0 && first < rows.count);
  return {.first = static_cast<std::uint64_t>(first * rows.size_bytes),
          .size = static_cast<std::uint64_t>(std::min(height, rows.count - first) * rows.size_bytes)};
}

std::int64_t segments_per_slab(const TensorInfo& tensor) {
  const Rows rows = rows_of(tensor);
  return std::max<std::int64_t>(1, slab_bytes / std::max<std::int64_t>(1, rows_of_segment(rows) * rows.size_bytes));
}

TensorDigests::TensorDigests(const std::vector<TensorInfo>& tensors) {
  entries_.reserve(tensors.size());
  for (const auto& tensor : tensors)
    entries_.push_back(
        {.facts = facts_of(tensor), .num_segments = num_segments(tensor), .num_seen = 0, .hashes = {}, .seen = {}});
}

std::string digest_lines(const std::string& tensor, const std::string& digest) {
  std::string lines;
  for (const std::string* text : {&tensor, &digest}) {
    for (const char c : *text) {
      if (c == '\\') lines += "\\\\";
      if (c == '\n') lines += "\\n";
      if (c != '\\' && c != '\n') lines += c;
    }
    lines += '\n';
  }
  return lines;
}

bool TensorDigests::add(std::size_t tensor, std::int64_t segment, std::uint64_t hash) {
  const std::lock_guard lock(mutex_);
  Entry& entry = entries_[tensor];
  SPECTRACE_ASSERT(segment >= 0 && segment < entry.num_segments);
  if (entry.hashes.empty()) {
    entry.hashes.resize(static_cast<std::size_t>(entry.num_segments));
    entry.seen.resize(static_cast<std::size_t>(entry.num_segments));
  }
  const auto place = static_cast<std::size_t>(segment);
  if (entry.seen[place]) return entry.hashes[place] == hash;
  entry.hashes[place] = hash;
  entry.seen[place] = true;
  ++entry.num_seen;
  return true;
}

std::vector<std::int64_t> TensorDigests::unseen(std::size_t tensor) const {
  const std::lock_guard lock(mutex_);
  const Entry& entry = entries_[tensor];
  std::vector<std::int64_t> segments;
  for (std::int64_t i = 0; i < entry.num_segments; ++i)
    if (entry.num_seen == 0 || !entry.seen[static_cast<std::size_t>(i)]) segments.push_back(i);
  return segments;
}

std::optional<std::string> TensorDigests::digest(std::size_t tensor) const {
  const std::lock_guard lock(mutex_);
  const Entry& entry = entries_[tensor];
  if (entry.num_seen < entry.num_segments) return std::nullopt;
  Sha256 sha;
  sha.update(entry.facts);
  sha.update(std::as_bytes(std::span(entry.hashes)));
  return sha.hex_digest().substr(0, 32);
}

std::vector<std::uint64_t> TensorDigests::hashes(std::size_t tensor, std::int64_t first, std::int64_t last) const {
  const std::lock_guard lock(mutex_);
  const Entry& entry = entries_[tensor];
  SPECTRACE_ASSERT(0 <= first && first <= last && last <= entry.num_segments);
  SPECTRACE_ASSERT(std::all_of(entry.seen.begin() + first, entry.seen.begin() + last, [](bool seen) { return seen; }));
  return {entry.hashes.begin() + first, entry.hashes.begin() + last};
}

}  // namespace spectrace
