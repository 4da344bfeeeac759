#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "spectrace/checkpoint/tensor_info.hpp"

namespace spectrace {

/// A tensor's bytes are hashed in segments of whole rows. Where they are cut follows from shape and type alone, so that
/// threads and ranks may share them out, in any order.
/// Rows a segment: as many as make about 1 MiB, at least one. Along the first dimension; elements of a tensor with one
/// dimension; bytes of one whose type is not known.
std::int64_t segment_rows(const TensorInfo& tensor);
/// None for a tensor without elements.
std::int64_t num_segments(const TensorInfo& tensor);

/// The segments that rows [first, last) lie in.
struct SegmentRange {
  std::int64_t first = 0, last = 0;
};
/// @pre 0 <= first < last <= the number of rows
SegmentRange segments_of_rows(const TensorInfo& tensor, std::int64_t first, std::int64_t last);

/// A segment's place in the tensor's bytes, taken in row-major order; its hash is over these, after those of the scales
/// of its rows where the tensor has scales.
struct SegmentBytes {
  std::uint64_t first = 0, size = 0;
};
/// @pre 0 <= segment < num_segments(tensor)
SegmentBytes segment_bytes(const TensorInfo& tensor, std::int64_t segment);

/// How many segments, at least one, are gathered into memory at a time where a tensor's elements don't lie in row-major
/// order: as many as make 64 MiB.
std::int64_t segments_per_slab(const TensorInfo& tensor);

/// "tensor\ndigest\n" as it goes into a digest over many: line ends and backslashes within are written as \n and \\,
/// so that no name can stand for two tensors.
std::string digest_lines(const std::string& tensor, const std::string& digest);

/// What the bytes of each tensor were when they were read: the XXH3 of each segment, as the segments come. Safe to use
/// from several threads at once. `tensor` is an index into the list given to the constructor.
class TensorDigests {
 public:
  explicit TensorDigests(const std::vector<TensorInfo>& tensors);

  /// Notes the hash of a segment's bytes. False if the segment was seen before and had another one.
  [[nodiscard]] bool add(std::size_t tensor, std::int64_t segment, std::uint64_t hash);
  /// The segments that nobody has read yet, in order.
  std::vector<std::int64_t> unseen(std::size_t tensor) const;
  /// 32 hexadecimal digits: SHA-256, cut to 128 bits, over type, shape and the segments' hashes, not the name. Nothing
  /// as long as a segment was not seen.
  std::optional<std::string> digest(std::size_t tensor) const;
  /// Of the segments [first, last). @pre all of them were seen.
  std::vector<std::uint64_t> hashes(std::size_t tensor, std::int64_t first, std::int64_t last) const;

 private:
  struct Entry {
    std::string facts;  // type and shape
    std::int64_t num_segments = 0;
    std::int64_t num_seen = 0;
    std::vector<std::uint64_t> hashes;  // empty until the first one comes
    std::vector<bool> seen;
  };

  mutable std::mutex mutex_;
  std::vector<Entry> entries_;
};

}  // namespace spectrace
