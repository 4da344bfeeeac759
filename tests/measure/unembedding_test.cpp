#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <span>

#include "spectrace/core/error.hpp"
#include "spectrace/measure/catalogue.hpp"
#include "spectrace/numerics/exact_gram.hpp"
#include "spectrace/numerics/numerical_error.hpp"
#include "spectrace/numerics/singular_values.hpp"
#include "support/safetensors_writer.hpp"
#include "support/temp_folder.hpp"

namespace spectrace {
namespace {

const RowsAnalysis& rows_analysis() { return dynamic_cast<const RowsAnalysis&>(*find_analysis("unembedding")); }

/// A model of which nothing but its unembedding is known.
ModelDescription model_of(std::int64_t num_rows, std::int64_t num_columns, bool is_of_16_bits = false) {
  ModelDescription model;
  model.embedding.unembedding_is_of_16_bits = is_of_16_bits;
  model.embedding.unembedding.tensor = "lm_head.weight";
  model.embedding.unembedding.shape = {num_rows, num_columns};
  return model;
}

Record measure_unembedding(const ModelDescription& model, const TensorStore& store, Slicing slicing,
                           const RowRange& rows) {
  return rows_analysis().measure(model, store, slicing, rows, {});
}

std::vector<RowRange> unembedding_parts(std::int64_t num_rows, std::int64_t num_columns) {
  return rows_analysis().parts(model_of(num_rows, num_columns));
}

TEST(MeasureUnembedding, blocks_change_no_bits_and_its_digest_comes_along) {
  // Rows of 120 bytes: no power of two makes a segment. Three blocks, the last one short.
  const std::int64_t num_rows = 150'000, num_columns = 60;
  const at::Tensor given = at::remainder(at::arange(num_rows * num_columns, at::kLong) * 7919, 65537)
                               .to(at::kBFloat16)
                               .reshape({num_rows, num_columns});
  const TempFolder folder;
  write_safetensors(folder.path() / "model.safetensors", {{"lm_head.weight", given}});
  const ModelDescription model = model_of(num_rows, num_columns);
  const auto store = TensorStore::open(folder.path()), other = TensorStore::open(folder.path());
  const TensorInfo& tensor = *store.find("lm_head.weight");

  const Record record = measure_unembedding(model, store, Slicing::correct, {0, num_rows});
  EXPECT_EQ(store.bytes_read(), tensor.size_bytes);
  ASSERT_TRUE(store.digest(tensor).has_value());
  EXPECT_EQ(*store.digest(tensor), other.read_digest(tensor));

  TallSingularValues whole(num_columns);
  whole.add_rows(given.to(at::kFloat));
  EXPECT_EQ(record.arrays.at("singular_values").values, whole.finish().values);

  // As numbers of 16 bits, which they are.
  const Record exact =
      measure_unembedding(model_of(num_rows, num_columns, true), store, Slicing::correct, {0, num_rows});
  ExactGram gram(num_columns);
  gram.add_rows(given);
  const SingularValues by_gram = singular_values_of_gram(gram.take(), num_columns);
  EXPECT_EQ(exact.arrays.at("singular_values").values, by_gram.values);
  EXPECT_EQ(exact.arrays.at("singular_value_error").values.front(), by_gram.error_bound);
  EXPECT_EQ(exact.arrays.at("row_norm").values, record.arrays.at("row_norm").values);
}

TEST(MeasureUnembedding, parts_follow_from_the_shape_alone) {
  // Llama-3.1-8B, Gemma-2-9B, Llama-3.2-1B, GPT-2; few rows; none.
  EXPECT_EQ(unembedding_parts(128256, 4096).size(), 5u);
  EXPECT_EQ(unembedding_parts(256000, 3584).size(), 8u);
  EXPECT_EQ(unembedding_parts(128256, 2048).size(), 8u);
  EXPECT_EQ(unembedding_parts(50257, 768).size(), 2u);
  EXPECT_EQ(unembedding_parts(5000, 4096).size(), 1u);
  EXPECT_EQ(unembedding_parts(512, 64).size(), 1u);
  EXPECT_EQ(unembedding_parts(2, 64).size(), 1u);
  for (const auto& [rows, columns] :
       std::vector<std::array<std::int64_t, 2>>{{128256, 4096}, {50257, 768}, {100003, 1000}}) {
    std::int64_t next = 0;
    const auto parts = unembedding_parts(rows, columns);
    const ModelDescription model = model_of(rows, columns);
    double flops = rows_analysis().join_flops(model);
    for (const RowRange& part : parts) {
      EXPECT_EQ(part.first, next);
      EXPECT_GE(part.count, 6 * columns);
      EXPECT_LE(std::abs(part.count - parts.front().count), 1);
      next = part.last();
      flops += rows_analysis().flops(model, part);
    }
    EXPECT_EQ(next, rows);
    EXPECT_NEAR(flops / singular_values_flops(rows, columns), 1, 1e-12);

    const ModelDescription of_16_bits = model_of(rows, columns, true);
    double of_parts = rows_analysis().join_flops(of_16_bits);
    for (const RowRange& part : parts) of_parts += rows_analysis().flops(of_16_bits, part);
    EXPECT_NEAR(of_parts / rows_analysis().flops(of_16_bits, {0, rows}), 1, 1e-12);
    EXPECT_LT(of_parts, flops);
  }
}

class PartsOfUnembedding : public ::testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(Ways, PartsOfUnembedding, ::testing::Bool(),
                         [](const auto& is_of_16_bits) { return std::string(is_of_16_bits.param ? "gram" : "qr"); });

TEST_P(PartsOfUnembedding, together_are_the_whole) {
  // Segments of 8738 rows: each part's ends lie within one. Rows of different size, so that a wrong order shows.
  const std::int64_t num_rows = 40'000, num_columns = 60;
  const at::Tensor rows = at::arange(num_rows, at::kLong).unsqueeze(1), columns = at::arange(num_columns, at::kLong);
  const at::Tensor given = (at::remainder(rows * rows * 31 + columns * columns * 7919 + rows * columns, 509) - 200)
                               .to(at::kFloat)
                               .mul((rows + 1).to(at::kFloat) / static_cast<double>(num_rows))
                               .to(at::kBFloat16);
  const TempFolder folder;
  write_safetensors(folder.path() / "model.safetensors", {{"lm_head.weight", given}});
  const ModelDescription model = model_of(num_rows, num_columns, GetParam());
  const auto store = TensorStore::open(folder.path());
  const Record whole = measure_unembedding(model, store, Slicing::correct, {0, num_rows});

  const auto join = rows_analysis().join(model);
  for (const RowRange& part : {RowRange{0, 5000}, {5000, 16000}, {21000, 19000}}) {
    const Record record = measure_unembedding(model, store, Slicing::correct, part);
    EXPECT_TRUE(rows_analysis().fits(record, model, part));
    EXPECT_FALSE(rows_analysis().fits(record, model, {part.first, part.count + 1}));
    EXPECT_FALSE(rows_analysis().fits(record, model_of(num_rows, num_columns, !GetParam()), part));
    EXPECT_FALSE(rows_analysis().fits(record, model_of(num_rows, num_columns + 1, GetParam()), part));
    const std::string journalled = encode_record(record);
    join->add(decode_record(std::as_bytes(std::span(journalled))));
  }
  const Record together = join->finish();
  ASSERT_EQ(together.arrays.size(), whole.arrays.size());
  const double bound = whole.arrays.at("singular_value_error").values.front() +
                       together.arrays.at("singular_value_error").values.front();
  for (const auto& [name, array] : whole.arrays) {
    const Array& found = together.arrays.at(name);
    ASSERT_EQ(found.shape, array.shape) << name;
    // Norms and what is summed of them have no other bits.
    const bool is_exact =
        name == "row_norm" || name == "frobenius_norm" || name == "row_norm_mean" || name == "row_norm_std";
    if (is_exact) {
      EXPECT_EQ(found.values, array.values) << name;
    } else if (name == "singular_values" || name == "spectral_norm") {
      for (std::size_t i = 0; i < array.values.size(); ++i) EXPECT_NEAR(found.values[i], array.values[i], bound);
    }
  }
}

TEST(MeasureUnembedding, is_rounded_to_float16_where_the_slicing_asks_for_it) {
  const at::Tensor given = at::sin(at::arange(40 * 6, at::kFloat)).reshape({40, 6});
  const TempFolder folder;
  write_safetensors(folder.path() / "model.safetensors", {{"lm_head.weight", given}});
  const ModelDescription model = model_of(40, 6);
  const auto values = [&](Slicing slicing) {
    return measure_unembedding(model, TensorStore::open(folder.path()), slicing, {0, 40})
        .arrays.at("singular_values")
        .values;
  };
  TallSingularValues rounded(6);
  rounded.add_rows(given.to(at::kHalf).to(at::kFloat));
  EXPECT_EQ(values(Slicing::as_published_float16), rounded.finish().values);
  EXPECT_EQ(values(Slicing::as_published), values(Slicing::correct));
  EXPECT_NE(values(Slicing::as_published_float16), values(Slicing::correct));
}

TEST(MeasureUnembedding, of_bfloat16_is_rounded_to_float16_where_the_slicing_asks_for_it) {
  // Below the least number of float16, and where it has fewer digits than bfloat16.
  const at::Tensor given = at::sin(at::arange(40 * 6, at::kFloat))
                               .reshape({40, 6})
                               .mul(at::tensor({1.0f, 1e-5f, 1e-6f, 1e-9f, 8.0f, 1e-7f}));
  const TempFolder folder;
  write_safetensors(folder.path() / "model.safetensors", {{"lm_head.weight", given.to(at::kBFloat16)}});
  const auto values = [&](Slicing slicing) {
    return measure_unembedding(model_of(40, 6, true), TensorStore::open(folder.path()), slicing, {0, 40})
        .arrays.at("singular_values")
        .values;
  };
  const auto expected = [&](const at::Tensor& rows) {
    ExactGram gram(6);
    gram.add_rows(rows);
    return singular_values_of_gram(gram.take(), 6).values;
  };
  EXPECT_EQ(values(Slicing::correct), expected(given.to(at::kBFloat16)));
  EXPECT_EQ(values(Slicing::as_published_float16), expected(given.to(at::kBFloat16).to(at::kHalf)));
  EXPECT_NE(values(Slicing::as_published_float16), values(Slicing::correct));
}

TEST(MeasureUnembedding, a_row_whose_norm_no_number_is_names_itself_and_the_tensor) {
  const at::Tensor given = at::full({40, 6}, 1e150, at::kDouble);
  const TempFolder folder;
  const ModelDescription model = model_of(40, 6);
  const auto measure = [&] {
    write_safetensors(folder.path() / "model.safetensors", {{"lm_head.weight", given}});
    return measure_unembedding(model, TensorStore::open(folder.path()), Slicing::correct, {0, 40});
  };
  // Squares are beyond the range, norms are not.
  given[17] = 1e307;
  const Record record = measure();
  EXPECT_DOUBLE_EQ(record.arrays.at("frobenius_norm").values.front(), std::sqrt(6.0) * 1e307);
  EXPECT_DOUBLE_EQ(record.arrays.at("row_norm").values[16], std::sqrt(6.0) * 1e150);
  given[17] = 1e308;
  try {
    measure();
    FAIL() << "nothing was thrown";
  } catch (const InputError& error) {
    EXPECT_EQ(error.kind(), ErrorKind::model);
    EXPECT_EQ(error.problem(), "row 17 of 'lm_head.weight' has a norm beyond the range of float64");
    EXPECT_EQ(error.why(), "its largest entry is 1e+308");
  }
  // Each row has a norm, and so has every singular vector: all together have none.
  given.zero_();
  for (int i = 0; i < 5; ++i) given[i][i] = 0x1p1023;
  try {
    measure();
    FAIL() << "nothing was thrown";
  } catch (const NumericalError& error) {
    EXPECT_STREQ(error.what(), "the Frobenius norm is beyond the range of float64, though every entry is in it");
  }
}

TEST(MeasureUnembedding, a_part_of_an_earlier_version_with_a_norm_beyond_the_range_is_refused) {
  const std::int64_t num_columns = 3;
  const TempFolder folder;
  write_safetensors(folder.path() / "model.safetensors",
                    {{"lm_head.weight", at::sin(at::arange(40 * num_columns, at::kFloat)).reshape({40, num_columns})}});
  const ModelDescription model = model_of(40, num_columns);
  Record part = measure_unembedding(model, TensorStore::open(folder.path()), Slicing::correct, {0, 20});
  part.arrays.at("row_norm").values[7] = HUGE_VAL;
  EXPECT_THROW(rows_analysis().join(model)->add(part), NumericalError);
}

}  // namespace
}  // namespace spectrace
