#include "spectrace/numerics/exact_gram.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "../../src/numerics/integer_grid.hpp"
#include "numerics/gaussian.hpp"
#include "numerics/peak_memory.hpp"
#include "spectrace/numerics/exact_sum.hpp"
#include "support/unit_roundoff.hpp"

namespace spectrace {
namespace {

constexpr double kUnitSquared = kUnitRoundoff * kUnitRoundoff;

GramOfRows gram_of(const Tensor& w) {
  ExactGram gram(w.size(1));
  gram.add_rows(w);
  return gram.take();
}

/// Student's t with three degrees of freedom: heavy tails.
Tensor heavy_tailed(std::int64_t rows, std::int64_t columns, std::uint32_t seed) {
  const Tensor squares = gaussian(rows, 3 * columns, seed + 1).square().reshape({rows, columns, 3}).sum(2);
  return gaussian(rows, columns, seed) / squares.div(3).sqrt();
}

/// Each row times 2^exponents[its number modulo how many there are]: mixed all through.
Tensor with_row_scales(const Tensor& a, const std::vector<double>& exponents) {
  const Tensor scales = at::exp2(at::tensor(exponents, at::kDouble));
  const Tensor index = at::arange(a.size(0)).mul(7).remainder(static_cast<std::int64_t>(exponents.size()));
  return a * scales.index_select(0, index).unsqueeze(1);
}

struct Sample {
  const char* name;
  Tensor w;
};

/// Three superblocks, the last one of few rows.
std::vector<Sample> samples() {
  const std::int64_t rows = 2 * 4096 + 777, columns = 21;
  const Tensor normal = gaussian(rows, columns, 1);
  const Tensor lognormal = normal * gaussian(rows, 1, 2).mul(2).exp();
  Tensor outliers = normal.clone();
  outliers.select(1, 5).mul_(3000);
  outliers.select(1, 20).mul_(1e-4);
  const Tensor scattered = normal * at::exp2(gaussian(rows, columns, 14).mul(2).abs().floor().clamp(0, 2).mul(-30));
  const auto bfloat16 = [](const Tensor& a) { return a.to(at::kBFloat16); };
  return {{"normal", bfloat16(normal)},
          {"heavy-tailed", bfloat16(heavy_tailed(rows, columns, 3))},
          {"lognormal rows", bfloat16(lognormal)},
          {"rows of two sizes", bfloat16(with_row_scales(normal, {0, 0, 0, 10}))},
          {"rows of sizes far apart", bfloat16(with_row_scales(normal, {0, -22, -22, -22}))},
          {"rows of three sizes", bfloat16(with_row_scales(normal, {0, -30, -60, 0, -75}))},
          {"entries of three sizes", bfloat16(scattered)},
          {"outlier columns", bfloat16(outliers)},
          {"subnormal", bfloat16(normal * 0x1p-128)},
          {"huge", bfloat16(normal * 0x1p120)},
          {"float16", normal.to(at::kHalf)},
          {"float16, heavy-tailed", heavy_tailed(rows, columns, 4).to(at::kHalf)},
          {"float16, subnormal", (normal * 0x1p-15).to(at::kHalf)},
          {"float16, rows of sizes far apart", with_row_scales(normal, {10, -12, -12}).to(at::kHalf)}};
}

/// Largest difference from the exact W^T W, which is summed without rounding, in u^2 times the norms of the columns.
double worst_error(const Tensor& w, const GramOfRows& gram) {
  const std::int64_t num_rows = w.size(0), n = w.size(1);
  const Tensor columns = w.to(at::kDouble).t().contiguous();
  const auto column = [&](std::int64_t j) { return columns.const_data_ptr<double>() + j * num_rows; };
  double worst = 0;
  for (std::int64_t j = 0; j < n; ++j)
    for (std::int64_t i = 0; i <= j; ++i) {
      ExactSum<1> sum;
      for (std::int64_t row = 0; row < num_rows; ++row) sum.add(column(i)[row] * column(j)[row]);
      const auto place = static_cast<std::size_t>(j * (j + 1) / 2 + i);
      EXPECT_EQ(sum.round(), gram.high[place]) << i << ", " << j;
      sum.add(-gram.high[place]);
      sum.add(-gram.low[place]);
      const auto square = [&](std::int64_t k) { return gram.high[static_cast<std::size_t>(k * (k + 1) / 2 + k)]; };
      const double norms = std::sqrt(square(i)) * std::sqrt(square(j));
      if (sum.round() != 0) worst = std::max(worst, std::abs(sum.round()) / (kUnitSquared * norms));
    }
  return worst;
}

double bound(const GramFacts& facts) { return 18 * static_cast<double>(facts.num_additions) + 64; }

TEST(ExactGram, is_the_exact_one_up_to_double_double_roundings) {
  for (const auto& [name, w] : samples()) {
    SCOPED_TRACE(name);
    const GramOfRows gram = gram_of(w);
    EXPECT_EQ(gram.facts.num_rows, w.size(0));
    EXPECT_LE(worst_error(w, gram), bound(gram.facts));
  }
}

TEST(ExactGram, has_not_even_those_where_106_bits_are_enough) {
  for (const auto& [name, w] : samples())
    if (std::string(name) == "normal" || std::string(name) == "float16" || std::string(name) == "huge") {
      EXPECT_EQ(worst_error(w, gram_of(w)), 0) << name;
    }
}

TEST(ExactGram, of_samples_goes_every_way) {
  // Else the test above would not see it: one grid without and with remainders, two grids, halves of a block.
  std::vector<std::int64_t> num_additions;
  for (const auto& sample : samples()) num_additions.push_back(gram_of(sample.w).facts.num_additions);
  EXPECT_EQ(*std::min_element(num_additions.begin(), num_additions.end()), 3 * 2);
  EXPECT_GT(*std::max_element(num_additions.begin(), num_additions.end()), 5 * 4);
}

TEST(ExactGram, of_integers_over_several_tiles) {
  // Sums of small integers are exact in any arithmetic. 600 columns: three tiles, the last one narrower.
  const Tensor w = gaussian(1000, 600, 5).mul(20).round();
  const Tensor expected = w.t().mm(w);
  const GramOfRows gram = gram_of(w.to(at::kBFloat16));
  const double* const entries = expected.const_data_ptr<double>();
  for (std::int64_t j = 0; j < 600; ++j)
    for (std::int64_t i = 0; i <= j; ++i)
      ASSERT_EQ(entries[i * 600 + j], gram.high[static_cast<std::size_t>(j * (j + 1) / 2 + i)]) << i << ", " << j;
  EXPECT_EQ(*std::max_element(gram.low.begin(), gram.low.end()), 0);
}

TEST(ExactGram, of_remainders_over_several_tiles) {
  // Column j has one entry of its own size far below the others: its products reach every column.
  Tensor w = gaussian(700, 300, 6).to(at::kBFloat16);
  for (std::int64_t j = 0; j < 300; ++j) w[(17 * j) % 700][j] = (1 + static_cast<double>(j % 100) / 128) * 0x1p-40;
  const GramOfRows gram = gram_of(w);
  EXPECT_LE(worst_error(w, gram), bound(gram.facts));
  EXPECT_EQ(gram.facts.num_additions, 2);
}

TEST(ExactGram, does_not_depend_on_the_cuts) {
  for (const auto& [name, w] : samples()) {
    SCOPED_TRACE(name);
    const GramOfRows whole = gram_of(w);
    for (const std::int64_t step : {37, 4095, 4096, 5000}) {
      ExactGram gram(w.size(1));
      for (std::int64_t row = 0; row < w.size(0); row += step)
        gram.add_rows(w.narrow(0, row, std::min(step, w.size(0) - row)));
      const GramOfRows cut = gram.take();
      EXPECT_EQ(whole.high, cut.high) << "blocks of " << step;
      EXPECT_EQ(whole.low, cut.low) << "blocks of " << step;
    }
  }
}

TEST(ExactGram, does_not_depend_on_the_order_of_rows_in_a_superblock) {
  const Tensor w = gaussian(4096, 40, 7).to(at::kBFloat16);
  std::vector<std::int64_t> order(4096);
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), std::mt19937(8));
  const GramOfRows one = gram_of(w), other = gram_of(w.index_select(0, at::tensor(order, at::kLong)));
  EXPECT_EQ(one.high, other.high);
  EXPECT_EQ(one.low, other.low);
}

TEST(ExactGram, has_the_same_bits_for_any_number_of_threads) {
  const Tensor normal = gaussian(5000, 530, 9);
  for (const Tensor& w : {normal.to(at::kBFloat16), with_row_scales(normal, {0, -22, -60}).to(at::kBFloat16)}) {
    set_compute_threads(1);
    const GramOfRows one = gram_of(w);
    for (const int num_threads : {2, 3, 4}) {
      set_compute_threads(num_threads);
      const GramOfRows several = gram_of(w);
      EXPECT_EQ(one.high, several.high) << num_threads;
      EXPECT_EQ(one.low, several.low) << num_threads;
    }
    set_compute_threads(1);
  }
}

TEST(ExactGram, reads_any_strides) {
  const Tensor w = gaussian(300, 20, 10).to(at::kBFloat16);
  const Tensor wide = at::full({600, 60}, 7.0, at::kBFloat16);
  const Tensor strided = at::slice(at::slice(wide, 0, 1, 600, 2), 1, 2, 60, 3);
  strided.copy_(w);
  EXPECT_EQ(gram_of(w).high, gram_of(strided).high);
  EXPECT_EQ(gram_of(w).high, gram_of(w.t().contiguous().t()).high);
}

TEST(ExactGram, of_parts_adds_up) {
  for (const auto& [name, w] : samples()) {
    SCOPED_TRACE(name);
    ExactGram together(w.size(1));
    std::int64_t first = 0, most_additions = 0;
    for (const std::int64_t end : {5, 4000, 4001, static_cast<int>(w.size(0))}) {
      const GramOfRows part = gram_of(w.narrow(0, first, end - first));
      most_additions = std::max(most_additions, part.facts.num_additions);
      together.add_sums(part.high, part.low, part.facts);
      first = end;
    }
    const GramOfRows gram = together.take();
    EXPECT_EQ(gram.facts.num_rows, w.size(0));
    EXPECT_GT(gram.facts.num_additions, most_additions);
    EXPECT_LE(worst_error(w, gram), bound(gram.facts));
  }
}

TEST(ExactGram, refuses_what_is_not_finite) {
  for (const auto type : {at::kBFloat16, at::kHalf})
    for (const double bad : {std::numeric_limits<double>::quiet_NaN(), HUGE_VAL, -HUGE_VAL})
      for (const std::int64_t row : {0, 4500}) {
        Tensor w = gaussian(4501, 5, 11).to(type);
        w[row][row == 0 ? 0 : 4] = bad;
        ExactGram gram(5);
        try {
          gram.add_rows(w);
          FAIL() << "nothing was thrown";
        } catch (const NumericalError& error) {
          EXPECT_STREQ(error.what(), "an entry of the matrix is not finite");
        }
      }
  EXPECT_EQ(gram_of(at::full({3, 1}, 65504.0, at::kHalf)).high.front(), 3 * 65504.0 * 65504.0);
}

TEST(ExactGram, of_no_rows_and_of_no_columns) {
  EXPECT_EQ(ExactGram(2).take().high, std::vector<double>(3, 0.0));
  EXPECT_TRUE(gram_of(at::empty({5, 0}, at::kBFloat16)).high.empty());
  EXPECT_EQ(gram_of(at::empty({0, 2}, at::kHalf)).high, std::vector<double>(3, 0.0));
  EXPECT_EQ(gram_of(at::zeros({9, 2}, at::kHalf)).high, std::vector<double>(3, 0.0));
}

/// Two strips of integers, their product and the check sums.
struct Product {
  Product() : rows(make_rows()), grids({data(), 64, 128, SixteenBits::bfloat16}, {memory.data(), 128, 128, 128}) {
    const Block integers = grids.integers(0);
    multiply(Form::transposed, integers.left(64), Form::as_is, integers.right_of(64), block(), 1.0, 0.0);
    grids.add_check_sums(0, 0, 64, left);
    grids.add_check_sums(0, 64, 64, right);
  }
  static Tensor make_rows() { return gaussian(64, 128, 12).to(at::kBFloat16); }
  const std::uint16_t* data() const {
    return reinterpret_cast<const std::uint16_t*>(rows.const_data_ptr<at::BFloat16>());
  }
  Block block() { return {entries.data(), 64, 64, 64}; }
  bool is_exact() { return is_exact_product(block(), 0, 64, left, right); }

  Tensor rows;
  std::vector<double> memory = std::vector<double>(128 * 128), entries = std::vector<double>(64 * 64);
  GridRows grids;
  std::vector<std::uint64_t> left, right;
};

TEST(ExactGram, finds_a_product_that_was_rounded) {
  Product product;
  EXPECT_TRUE(product.is_exact());
  EXPECT_NO_THROW(require_exact_product(product.block(), 0, 64, product.left, product.right));
  for (const std::size_t place : {0, 64, 1234, 4095})
    for (const double change : {1.0, -1.0, 0.5, 0x1p40, 0x1p60, std::numeric_limits<double>::quiet_NaN()}) {
      const double before = product.entries[place];
      product.entries[place] = before + change;
      EXPECT_FALSE(product.is_exact()) << place << ": " << change;
      EXPECT_THROW(require_exact_product(product.block(), 0, 64, product.left, product.right), NumericalError);
      product.entries[place] = before;
    }
  // Two errors that sum up to nothing, and two entries that changed places.
  product.entries[70] += 1;
  product.entries[71] -= 1;
  EXPECT_FALSE(product.is_exact());
  product.entries[70] -= 1;
  product.entries[71] += 1;
  EXPECT_TRUE(product.is_exact());
  std::swap(product.entries[3], product.entries[64]);
  EXPECT_FALSE(product.is_exact());
}

TEST(ExactGram, takes_the_memory_that_is_planned) {
  const std::int64_t n = 300;
  const Tensor w = gaussian(5000, n, 13).to(at::kBFloat16);
  const std::int64_t peak = peak_tensor_bytes([&] { gram_of(w); });
  const std::int64_t tile_bytes = 8 * 256 * 256;
  EXPECT_LE(peak, gram_bytes(5000, n) + tile_bytes);
  EXPECT_GE(static_cast<double>(peak), 0.6 * static_cast<double>(gram_bytes(5000, n)));
}

}  // namespace
}  // namespace spectrace
