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

  const Record record = measure_unembedding(model, store);
  EXPECT_EQ(store.bytes_read(), tensor.size_bytes);
  ASSERT_TRUE(store.digest(tensor).has_value());
  EXPECT_EQ(*store.digest(tensor), other.read_digest(tensor));

  TallSingularValues whole(num_columns);
  whole.add_rows(given.to(at::kFloat));
  EXPECT_EQ(record.arrays.at("singular_values").values, whole.finish().values);
}

}  // namespace
}  // namespace spectrace
