#include "spectrace/checkpoint/element_conversion.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <vector>

namespace spectrace {
namespace {

/// All bit patterns of a format of 16 or 8 bits, converted by libtorch: another implementation.
template <typename Small, typename To>
void expect_all_patterns_equal(StorageType type, at::ScalarType to) {
  using Bits = std::conditional_t<sizeof(Small) == 2, std::uint16_t, std::uint8_t>;
  constexpr std::int64_t count = std::numeric_limits<Bits>::max() + 1;
  std::vector<Bits> bits(count);
  std::iota(bits.begin(), bits.end(), Bits{0});
  std::vector<To> got(bits.size());
  convert_elements(type, reinterpret_cast<const std::byte*>(bits.data()), count, got.data());
  const at::Tensor expected =
      at::from_blob(bits.data(), {count}, at::TensorOptions().dtype(c10::CppTypeToScalarType<Small>::value)).to(to);
  std::int64_t non_finite = 0;
  for (std::size_t i = 0; i < bits.size(); ++i) {
    const To want = expected.const_data_ptr<To>()[i];
    non_finite += !std::isfinite(want);
    if (std::isnan(want)) {
      ASSERT_TRUE(std::isnan(got[i])) << "bits " << i;
    } else {
      ASSERT_EQ(got[i], want) << "bits " << i;
      ASSERT_EQ(std::signbit(got[i]), std::signbit(want)) << "bits " << i;
    }
  }
  EXPECT_EQ(count_non_finite(got.data(), count), non_finite);
}

TEST(ElementConversion, every_float8) {
  expect_all_patterns_equal<at::Float8_e4m3fn, float>(StorageType::float8_e4m3, at::kFloat);
  expect_all_patterns_equal<at::Float8_e4m3fn, double>(StorageType::float8_e4m3, at::kDouble);
  expect_all_patterns_equal<at::Float8_e5m2, float>(StorageType::float8_e5m2, at::kFloat);
  expect_all_patterns_equal<at::Float8_e5m2, double>(StorageType::float8_e5m2, at::kDouble);
}

TEST(ElementConversion, every_float16) {
  expect_all_patterns_equal<at::Half, float>(StorageType::float16, at::kFloat);
  expect_all_patterns_equal<at::Half, double>(StorageType::float16, at::kDouble);
}

TEST(ElementConversion, every_bfloat16) {
  expect_all_patterns_equal<at::BFloat16, float>(StorageType::bfloat16, at::kFloat);
  expect_all_patterns_equal<at::BFloat16, double>(StorageType::bfloat16, at::kDouble);
}

/// As stored: the same bits, whatever they say; and what is not finite is found as in float32.
template <typename Half>
void expect_same_bits_and_count(StorageType type) {
  std::vector<std::uint16_t> bits(65536);
  std::iota(bits.begin(), bits.end(), std::uint16_t{0});
  std::vector<Half> got(bits.size());
  convert_elements(type, reinterpret_cast<const std::byte*>(bits.data()), 65536, got.data());
  EXPECT_EQ(std::memcmp(got.data(), bits.data(), 2 * bits.size()), 0);
  std::vector<float> wide(bits.size());
  convert_elements(type, reinterpret_cast<const std::byte*>(bits.data()), 65536, wide.data());
  EXPECT_EQ(count_non_finite(got.data(), 65536), count_non_finite(wide.data(), 65536));
  EXPECT_GT(count_non_finite(got.data(), 65536), 0);
}

TEST(ElementConversion, as_stored) {
  expect_same_bits_and_count<at::Half>(StorageType::float16);
  expect_same_bits_and_count<at::BFloat16>(StorageType::bfloat16);
}

TEST(ElementConversion, float64_to_float32_rounds_to_nearest_even) {
  const double ulp = std::ldexp(1.0, -23);
  const std::vector<double> given = {1 + ulp / 2, 1 + 3 * ulp / 2, 1 + ulp / 2 + ulp / 1024, -(1 + ulp / 4), 1e300};
  const std::vector<float> expected = {1.0f, static_cast<float>(1 + 2 * ulp), static_cast<float>(1 + ulp), -1.0f,
                                       std::numeric_limits<float>::infinity()};
  std::vector<float> got(given.size());
  convert_elements(StorageType::float64, reinterpret_cast<const std::byte*>(given.data()), 5, got.data());
  EXPECT_EQ(got, expected);
  EXPECT_EQ(count_non_finite(got.data(), 5), 1);
}

TEST(ElementConversion, source_need_not_be_aligned) {
  constexpr std::int64_t count = 37;
  std::vector<float> values(count);
  std::iota(values.begin(), values.end(), -11.5f);
  std::vector<std::byte> bytes(count * sizeof(float) + 1);
  std::memcpy(bytes.data() + 1, values.data(), count * sizeof(float));
  std::vector<double> got(count);
  convert_elements(StorageType::float32, bytes.data() + 1, count, got.data());
  for (std::size_t i = 0; i < count; ++i) EXPECT_EQ(got[i], static_cast<double>(values[i]));
}

template <typename Bits>
void expect_block_lands(StorageType type, std::int64_t rows, std::int64_t cols) {
  const ElementBlock block{.rows = rows,
                           .cols = cols,
                           .stride_i = 2 * cols + 3,
                           .stride_j = 2,
                           .out_stride_i = 2,
                           .out_stride_j = 2 * rows + 5};
  std::vector<Bits> source(static_cast<std::size_t>(rows * block.stride_i));
  std::iota(source.begin(), source.end(), Bits{1});
  std::vector<Bits> got(static_cast<std::size_t>(cols * block.out_stride_j), Bits{0});
  auto expected = got;
  for (std::int64_t i = 0; i < rows; ++i)
    for (std::int64_t j = 0; j < cols; ++j)
      expected[static_cast<std::size_t>(i * block.out_stride_i + j * block.out_stride_j)] =
          source[static_cast<std::size_t>(i * block.stride_i + j * block.stride_j)];
  copy_block(type, reinterpret_cast<const std::byte*>(source.data()), block, reinterpret_cast<std::byte*>(got.data()));
  EXPECT_EQ(got, expected) << name(type) << ": " << rows << " x " << cols;
}

TEST(ElementConversion, block_lands_where_the_strides_say) {
  // Sizes around the tile, written transposed and with gaps; what lies between must stay.
  for (const std::int64_t rows : {1, 31, 33, 70})
    for (const std::int64_t cols : {1, 32, 65}) {
      expect_block_lands<std::uint64_t>(StorageType::float64, rows, cols);
      expect_block_lands<std::uint32_t>(StorageType::float32, rows, cols);
      expect_block_lands<std::uint16_t>(StorageType::bfloat16, rows, cols);
      expect_block_lands<std::uint8_t>(StorageType::boolean, rows, cols);
    }
}

TEST(ElementConversion, counts_every_kind_of_non_finite) {
  const double inf = std::numeric_limits<double>::infinity(), nan = std::numeric_limits<double>::quiet_NaN();
  const std::vector<double> values = {0, -0.0, inf, 1, -inf, nan, std::numeric_limits<double>::max(), 5e-324, -nan};
  EXPECT_EQ(count_non_finite(values.data(), static_cast<std::int64_t>(values.size())), 4);
  const std::vector<float> narrow = {0, 1e-45f, std::numeric_limits<float>::max(), static_cast<float>(inf),
                                     static_cast<float>(nan)};
  EXPECT_EQ(count_non_finite(narrow.data(), static_cast<std::int64_t>(narrow.size())), 2);
}

}  // namespace
}  // namespace spectrace
