#include "spectrace/work/part_signature.hpp"

#include <fmt/format.h>

#include <charconv>
#include <cstdint>
#include <utility>
#include <vector>

namespace spectrace {
namespace {

constexpr const char* kSegments = "segments";

const TensorInfo& unembedding_of(const OpenModel& model) {
  return *model.store.find(model.description.embedding.unembedding.tensor);
}

std::vector<std::string> as_text(const std::vector<std::uint64_t>& hashes) {
  std::vector<std::string> texts;
  texts.reserve(hashes.size());
  for (const std::uint64_t hash : hashes) texts.push_back(fmt::format("{:016x}", hash));
  return texts;
}

/// As the journal has them; none where they are not those of so many segments.
std::vector<std::uint64_t> hashes_of(const Record& record, std::int64_t count) {
  const auto found = record.texts.find(kSegments);
  if (found == record.texts.end() || std::cmp_not_equal(found->second.size(), count)) return {};
  std::vector<std::uint64_t> hashes;
  for (const std::string& text : found->second) {
    std::uint64_t hash = 0;
    const auto read = std::from_chars(text.data(), text.data() + text.size(), hash, 16);
    if (read.ec != std::errc() || read.ptr != text.data() + text.size()) return {};
    hashes.push_back(hash);
  }
  return hashes;
}

}  // namespace

void sign_part(Record& record, const OpenModel& model, const RowsWork& work) {
  const TensorInfo& tensor = unembedding_of(model);
  const SegmentRange segments = segments_of_rows(tensor, work.rows.first, work.rows.last());
  record.texts[kSegments] = as_text(model.store.read_segment_hashes(tensor, segments.first, segments.last));
}

bool is_made_of(const Record& record, const OpenModel& model, const RowsWork& work) {
  const TensorInfo& tensor = unembedding_of(model);
  const SegmentRange segments = segments_of_rows(tensor, work.rows.first, work.rows.last());
  const auto hashes = hashes_of(record, segments.last - segments.first);
  return !hashes.empty() && hashes == model.store.read_segment_hashes(tensor, segments.first, segments.last);
}

PartDigests::PartDigests(const OpenModel& model) : tensor_(unembedding_of(model)), digests_({tensor_}) {}

bool PartDigests::add(const Record& record, const RowsWork& work) {
  const SegmentRange segments = segments_of_rows(tensor_, work.rows.first, work.rows.last());
  const auto hashes = hashes_of(record, segments.last - segments.first);
  bool are_same = !hashes.empty();
  for (std::size_t i = 0; i < hashes.size(); ++i)
    are_same &= digests_.add(0, segments.first + static_cast<std::int64_t>(i), hashes[i]);
  return are_same;
}

}  // namespace spectrace
