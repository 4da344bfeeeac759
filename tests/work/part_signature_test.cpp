#include "spectrace/work/part_signature.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>

#include "spectrace/measure/catalogue.hpp"
#include "support/safetensors_writer.hpp"
#include "support/temp_folder.hpp"

namespace spectrace {
namespace {

/// A model of which nothing but its unembedding is known.
OpenModel model_of(const std::filesystem::path& folder) {
  OpenModel model{folder, JsonNode::parse_text("{}", "config", ErrorKind::model), TensorStore::open(folder), {}};
  TensorSource& unembedding = model.description.embedding.unembedding;
  unembedding.tensor = "lm_head.weight";
  unembedding.shape = model.store.find("lm_head.weight")->shape;
  return model;
}

RowsWork part(std::int64_t first, std::int64_t count) {
  return {dynamic_cast<const RowsAnalysis*>(find_analysis("unembedding")), {first, count}, true};
}

/// 3000 rows of 3 KiB: segments of 341 rows.
Tensor entries() {
  return at::remainder(at::arange(3000 * 768, at::kLong) * 7919, 65537).to(at::kFloat).reshape({3000, 768});
}

Record signed_part(const OpenModel& model, const RowsWork& work) {
  Record record;
  sign_part(record, model, work);
  return record;
}

TEST(PartSignature, of_all_parts_gives_the_digest_of_the_tensor) {
  const TempFolder folder;
  write_safetensors(folder.path() / "model.safetensors", {{"lm_head.weight", entries()}});
  const OpenModel reader = model_of(folder.path());
  PartDigests digests(reader);
  for (const RowsWork& work : {part(0, 1000), part(1000, 500), part(1500, 1500)}) {
    EXPECT_FALSE(digests.digest().has_value());
    const OpenModel other_rank = model_of(folder.path());
    EXPECT_TRUE(digests.add(signed_part(other_rank, work), work));
    // No more than the segments that its rows lie in.
    EXPECT_LE(other_rank.store.bytes_read(), static_cast<std::uint64_t>((work.rows.count + 2 * 341) * 768 * 4));
  }
  EXPECT_EQ(digests.digest(), reader.store.read_digest(*reader.store.find("lm_head.weight")));
}

TEST(PartSignature, says_where_the_rows_are_others) {
  const TempFolder folder, touched;
  Tensor other = entries();
  other[1400][5] += 1;
  write_safetensors(folder.path() / "model.safetensors", {{"lm_head.weight", entries()}});
  write_safetensors(touched.path() / "model.safetensors", {{"lm_head.weight", other}});
  const OpenModel before = model_of(folder.path()), now = model_of(touched.path());
  const RowsWork first = part(0, 1000), second = part(1000, 300), third = part(1300, 1700);
  // Rows 1364 to 1704 are one segment, which the first two parts have no row of.
  EXPECT_TRUE(is_made_of(signed_part(before, first), now, first));
  EXPECT_TRUE(is_made_of(signed_part(before, second), now, second));
  EXPECT_FALSE(is_made_of(signed_part(before, third), now, third));

  // Parts of two states of the file meet in a segment that both have rows of.
  PartDigests digests(before);
  const RowsWork upper = part(0, 1380), lower = part(1380, 1620);
  EXPECT_TRUE(digests.add(signed_part(before, upper), upper));
  EXPECT_FALSE(digests.add(signed_part(now, lower), lower));
}

TEST(PartSignature, that_is_damaged_fits_nothing) {
  const TempFolder folder;
  write_safetensors(folder.path() / "model.safetensors", {{"lm_head.weight", entries()}});
  const OpenModel model = model_of(folder.path());
  const RowsWork work = part(0, 1000);
  const Record good = signed_part(model, work);
  EXPECT_TRUE(is_made_of(good, model, work));
  for (const auto& damage : std::vector<std::function<void(std::vector<std::string>&)>>{
           [](auto& hashes) { hashes.pop_back(); }, [](auto& hashes) { hashes.clear(); },
           [](auto& hashes) { hashes.front() += "0"; }, [](auto& hashes) { hashes.front().clear(); },
           [](auto& hashes) { hashes.front() = "xyz"; }, [](auto& hashes) { std::swap(hashes[0], hashes[1]); }}) {
    Record record = good;
    damage(record.texts.at("segments"));
    EXPECT_FALSE(is_made_of(record, model, work));
  }
  EXPECT_FALSE(is_made_of(Record(), model, work));
  PartDigests digests(model);
  EXPECT_FALSE(digests.add(Record(), work));
}

}  // namespace
}  // namespace spectrace
