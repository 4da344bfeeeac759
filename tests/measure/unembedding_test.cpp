#include "spectrace/measure/unembedding.hpp"

#include <gtest/gtest.h>

#include "spectrace/numerics/singular_values.hpp"
#include "support/safetensors_writer.hpp"
#include "support/temp_folder.hpp"

namespace spectrace {
namespace {

TEST(MeasureUnembedding, blocks_change_no_bits_and_its_digest_comes_along) {
  // Rows of 120 bytes: no power of two makes a segment. Three blocks, the last one short.
  const std::int64_t num_rows = 150'000, num_columns = 60;
  const at::Tensor given = at::remainder(at::arange(num_rows * num_columns, at::kLong) * 7919, 65537)
                               .to(at::kBFloat16)
                               .reshape({num_rows, num_columns});
  const TempFolder folder;
  write_safetensors(folder.path() / "model.safetensors", {{"lm_head.weight", given}});
  ModelDescription model;
  model.embedding.unembedding.tensor = "lm_head.weight";
  const auto store = TensorStore::open(folder.path()), other = TensorStore::open(folder.path());
  const TensorInfo& tensor = *store.find("lm_head.weight");

  const Record record = measure_unembedding(model, store, Slicing::correct);
  EXPECT_EQ(store.bytes_read(), tensor.size_bytes);
  ASSERT_TRUE(store.digest(tensor).has_value());
  EXPECT_EQ(*store.digest(tensor), other.read_digest(tensor));

  TallSingularValues whole(num_columns);
  whole.add_rows(given.to(at::kFloat));
  EXPECT_EQ(record.arrays.at("singular_values").values, whole.finish().values);
}

TEST(MeasureUnembedding, is_rounded_to_float16_where_the_slicing_asks_for_it) {
  const at::Tensor given = at::sin(at::arange(40 * 6, at::kFloat)).reshape({40, 6});
  const TempFolder folder;
  write_safetensors(folder.path() / "model.safetensors", {{"lm_head.weight", given}});
  ModelDescription model;
  model.embedding.unembedding.tensor = "lm_head.weight";
  const auto values = [&](Slicing slicing) {
    return measure_unembedding(model, TensorStore::open(folder.path()), slicing).arrays.at("singular_values").values;
  };
  TallSingularValues rounded(6);
  rounded.add_rows(given.to(at::kHalf).to(at::kFloat));
  EXPECT_EQ(values(Slicing::as_published_float16), rounded.finish().values);
  EXPECT_EQ(values(Slicing::as_published), values(Slicing::correct));
  EXPECT_NE(values(Slicing::as_published_float16), values(Slicing::correct));
}

}  // namespace
}  // namespace spectrace
