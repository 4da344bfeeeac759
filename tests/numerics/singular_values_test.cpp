#include "spectrace/numerics/singular_values.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <numeric>
#include <random>

#include "numerics/gaussian.hpp"
#include "numerics/golden.hpp"
#include "numerics/peak_memory.hpp"
#include "spectrace/core/parallel.hpp"
#include "support/unit_roundoff.hpp"

namespace spectrace {
namespace {

/// The bound may be this many times the larger of the error and the rounding of sigma_1: else it says nothing.
constexpr double kLargestExcess = 1e4;

Tensor matrix(std::int64_t rows, std::int64_t columns, const std::vector<double>& entries) {
  return at::tensor(entries, at::kDouble).reshape({rows, columns});
}

/// Sylvester's Hadamard matrix with rows and columns shuffled: orthogonal up to sqrt(n), entries +-1.
Tensor hadamard(std::int64_t n, std::uint32_t seed) {
  Tensor h = at::ones({1, 1}, at::kDouble);
  while (h.size(0) < n) h = at::cat({at::cat({h, h}, 1), at::cat({h, -h}, 1)}, 0);
  std::vector<std::int64_t> order(static_cast<std::size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  std::mt19937 random(seed);
  std::shuffle(order.begin(), order.end(), random);
  return h.index_select(0, at::tensor(order, at::kLong));
}

struct KnownMatrix {
  Tensor entries;
  std::vector<double> sigma;
};

/// H_m[:, :n] diag(d) H_n: integers below 2^53, so exact; singular values sqrt(m n) d. @pre m n is a power of 4.
KnownMatrix known_matrix(std::int64_t m, std::int64_t n, std::vector<double> d) {
  KnownMatrix known;
  known.entries = hadamard(m, 11).narrow(1, 0, n).mul(at::tensor(d, at::kDouble)).mm(hadamard(n, 12));
  const double scale = std::sqrt(static_cast<double>(m * n));
  std::sort(d.rbegin(), d.rend());
  for (const double value : d) known.sigma.push_back(scale * value);
  return known;
}

std::vector<double> integers(std::int64_t count, double ratio) {
  std::vector<double> d;
  double value = 0x1p40;
  for (std::int64_t i = 0; i < count; ++i, value /= ratio) d.push_back(std::floor(value));
  return d;
}

void expect_within_bound(const std::vector<double>& expected, const SingularValues& actual) {
  ASSERT_EQ(expected.size(), actual.values.size());
  EXPECT_TRUE(std::is_sorted(actual.values.rbegin(), actual.values.rend()));
  double worst = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    EXPECT_GE(actual.values[i], 0.0);
    worst = std::max(worst, std::abs(expected[i] - actual.values[i]));
  }
  EXPECT_LE(worst, actual.error_bound);
  const double smallest_error = std::max(kUnitRoundoff * expected.front(), std::numeric_limits<double>::denorm_min());
  EXPECT_LE(actual.error_bound, kLargestExcess * std::max(worst, smallest_error));
}

TEST(SingularValues, agree_with_60_digit_arithmetic) {
  golden("singular_values.json").for_each([](const JsonNode& node) {
    SCOPED_TRACE(node.at("name").as_string());
    const std::int64_t rows = node.at("rows").as_int(), columns = node.at("columns").as_int();
    const std::vector<double> sigma = golden_numbers(node.at("sigma"));
    const Tensor a = matrix(rows, columns, golden_numbers(node.at("entries")));
    expect_within_bound(sigma, singular_values(a));
    expect_within_bound(sigma, singular_values(a.t()));
    expect_within_bound(sigma, singular_values(a.t().contiguous().t()));
    const Tensor wider = at::full({2 * rows, 3 * columns}, 7.0, at::kDouble);
    const Tensor strided = at::slice(at::slice(wider, 0, 1, 2 * rows, 2), 1, 2, 3 * columns, 3);
    strided.copy_(a);
    expect_within_bound(sigma, singular_values(strided));
    if (at::equal(a.to(at::kFloat).to(at::kDouble), a)) expect_within_bound(sigma, singular_values(a.to(at::kFloat)));
  });
}

TEST(SingularValues, of_matrices_known_exactly) {
  for (const double ratio : {1.0, 1.01, 1.1, 2.0}) {
    SCOPED_TRACE(ratio);
    for (const std::int64_t n : {16, 64}) {
      const KnownMatrix square = known_matrix(n, n, integers(n, ratio));
      expect_within_bound(square.sigma, singular_values(square.entries));
      const KnownMatrix tall = known_matrix(16 * n, n, integers(n, ratio));
      expect_within_bound(tall.sigma, singular_values(tall.entries));
      expect_within_bound(tall.sigma, singular_values(tall.entries.t()));
    }
  }
}

TEST(SingularValues, of_a_rank_deficient_matrix_end_in_zeros) {
  std::vector<double> d(64, 0.0);
  std::iota(d.begin(), d.begin() + 20, 3.0);
  const KnownMatrix known = known_matrix(64, 64, d);
  const SingularValues result = singular_values(known.entries);
  expect_within_bound(known.sigma, result);
  EXPECT_GT(result.values[19], result.error_bound);
  EXPECT_LE(result.values[20], result.error_bound);
}

TEST(SingularValues, of_every_real_type) {
  const Tensor integers_ = at::tensor({3, -4, 0, 0, 5, 12}, at::kLong).reshape({2, 3});
  const std::vector<double> expected = singular_values(integers_.to(at::kDouble)).values;
  for (const auto type : {at::kHalf, at::kBFloat16, at::kFloat, at::kInt, at::kChar})
    EXPECT_EQ(expected, singular_values(integers_.to(type)).values) << at::toString(type);
}

TEST(SingularValues, of_nothing_are_none) {
  for (const auto& [rows, columns] : std::vector<std::array<std::int64_t, 2>>{{0, 0}, {0, 5}, {5, 0}}) {
    const SingularValues result = singular_values(at::empty({rows, columns}, at::kFloat));
    EXPECT_TRUE(result.values.empty());
    EXPECT_EQ(0.0, result.error_bound);
  }
}

TEST(SingularValues, refuse_what_is_not_finite) {
  for (const double bad : {std::numeric_limits<double>::quiet_NaN(), HUGE_VAL, -HUGE_VAL}) {
    Tensor a = gaussian(9, 5, 1);
    a[8][4] = bad;
    EXPECT_THROW(singular_values(a), NumericalError);
    EXPECT_THROW(singular_values(a.to(at::kFloat).t()), NumericalError);
    Tensor tall = gaussian(5000, 64, 1);  // converted in several pieces
    tall[700][3] = bad;
    EXPECT_THROW(singular_values(tall), NumericalError);
  }
}

TEST(SingularValues, beyond_the_range_are_refused_and_at_its_end_not) {
  // sigma_1 of n x n equal entries is n times one of them.
  const Tensor ones = at::ones({4, 4}, at::kDouble);
  EXPECT_DOUBLE_EQ(0x1p1023, singular_values(ones * 0x1p1021).values.front());
  try {
    singular_values(ones * 0x1.8p1022);
    FAIL() << "nothing was thrown";
  } catch (const NumericalError& error) {
    EXPECT_STREQ(error.what(), "the spectral norm is beyond the range of float64, though every entry is in it");
  }
}

TEST(SingularValues, same_bits_for_any_number_of_threads) {
  const Tensor a = gaussian(150, 150, 2), b = gaussian(3000, 40, 3);
  const auto all = [&] {
    std::vector<std::vector<double>> values(6);
    parallel_for(
        6, [&](std::int64_t i) { values[static_cast<std::size_t>(i)] = singular_values(i % 2 == 0 ? a : b).values; });
    return values;
  };
  set_compute_threads(1);
  const auto one = all();
  set_compute_threads(3);
  const auto three = all();
  set_compute_threads(1);
  EXPECT_EQ(one, three);
}

/// One matrix of a kind that has broken such programs before.
Tensor drawn_matrix(std::int64_t rows, std::int64_t columns, int kind, std::uint32_t seed) {
  const Tensor noise = gaussian(rows, columns, seed);
  const std::int64_t n = std::min(rows, columns);
  switch (kind) {
    case 0: return noise;
    case 1: return at::full({rows, columns}, 0.1, at::kDouble);
    case 2: return noise.narrow(1, 0, 1).mm(noise.narrow(0, 0, 1));  // rank 1
    case 3: return at::zeros({rows, columns}, at::kDouble);
    case 4: return noise + 1e8 * noise.narrow(1, 0, 1).mm(noise.narrow(0, 0, 1));
    case 5: return noise * at::logspace(0, -14, columns, 10, at::kDouble);
    case 6: return noise.mul(at::logspace(-14, 0, rows, 10, at::kDouble).unsqueeze(1));
    case 7: return noise * std::ldexp(1.0, -1060);  // denormal numbers
    case 8: return noise * std::ldexp(1.0, 1000);
    case 9: return noise * std::ldexp(1.0, -1000);
    case 10: return noise.narrow(1, 0, (n + 1) / 2).mm(gaussian((n + 1) / 2, columns, seed + 1));  // half the rank
    case 11: return at::eye(rows, columns, at::kDouble);
    default: return noise.to(at::kBFloat16).to(at::kDouble);
  }
}
constexpr int kNumKinds = 13;

/// dgesdd of a copy that is scaled to where it is safe.
std::vector<double> by_dgesdd(const Tensor& a) {
  const double largest = a.numel() > 0 ? a.abs().max().item<double>() : 0;
  const int exponent = largest > 0 ? std::ilogb(largest) : 0;
  const Tensor scaled = a.mul(std::ldexp(1.0, -exponent / 2)).mul(std::ldexp(1.0, -(exponent - exponent / 2)));
  const Tensor values = at::linalg_svdvals(scaled).contiguous();
  std::vector<double> result(values.const_data_ptr<double>(), values.const_data_ptr<double>() + values.numel());
  for (double& value : result) value = std::ldexp(value, exponent);
  return result;
}

/// As many draws as SPECTRACE_SVD_DRAWS says, of sides up to SPECTRACE_SVD_LARGEST.
std::int64_t number_from_environment(const char* name, std::int64_t otherwise) {
  const char* text = std::getenv(name);
  return text != nullptr ? std::atoll(text) : otherwise;
}

TEST(SingularValues, agree_with_dgesdd_on_random_draws) {
  const std::int64_t num_draws = number_from_environment("SPECTRACE_SVD_DRAWS", 200);
  const auto largest = static_cast<double>(number_from_environment("SPECTRACE_SVD_LARGEST", 150));
  std::mt19937 random(23);
  std::uniform_real_distribution<double> exponent(0, std::log2(largest));
  for (std::int64_t draw = 0; draw < num_draws; ++draw) {
    const auto rows = static_cast<std::int64_t>(std::exp2(exponent(random)));
    const auto columns = static_cast<std::int64_t>(std::exp2(exponent(random)));
    const int kind = static_cast<int>(draw % kNumKinds);
    SCOPED_TRACE(testing::Message() << "draw " << draw << ": " << rows << " x " << columns << ", kind " << kind);
    const Tensor a = drawn_matrix(rows, columns, kind, static_cast<std::uint32_t>(draw));
    const SingularValues found = singular_values(a);
    const std::vector<double> expected = by_dgesdd(a);
    ASSERT_EQ(expected.size(), found.values.size());
    // Both are within the bound of the exact values.
    for (std::size_t i = 0; i < expected.size(); ++i)
      ASSERT_LE(std::abs(expected[i] - found.values[i]), 2 * found.error_bound) << i;
  }
}

TEST(SingularValues, of_a_large_matrix_have_the_same_bits_for_any_number_of_threads) {
  const Tensor square = gaussian(700, 650, 4), tall = gaussian(4000, 300, 5);
  set_compute_threads(1);
  const std::vector<double> one = singular_values(square).values, one_tall = singular_values(tall).values;
  set_compute_threads(3);
  EXPECT_EQ(one, singular_values(square).values);
  EXPECT_EQ(one_tall, singular_values(tall).values);
  set_compute_threads(1);
}

TEST(TallSingularValues, do_not_depend_on_the_cuts) {
  const Tensor a = gaussian(9000, 37, 4);
  const SingularValues whole = singular_values(a);
  const std::vector<double> reference = [&] {
    const Tensor values = at::linalg_svdvals(a);
    return std::vector<double>(values.const_data_ptr<double>(), values.const_data_ptr<double>() + 37);
  }();
  for (std::size_t i = 0; i < 37; ++i) EXPECT_NEAR(reference[i], whole.values[i], 2 * whole.error_bound);
  for (const std::int64_t step : {1, 700, 2048, 8999}) {
    TallSingularValues solver(37);
    for (std::int64_t row = 0; row < 9000; row += step) solver.add_rows(a.narrow(0, row, std::min(step, 9000 - row)));
    EXPECT_EQ(whole.values, solver.finish().values) << "blocks of " << step;
  }
}

TEST(TallSingularValues, of_a_matrix_known_exactly) {
  // 64 copies, one under the other, have 8 times the singular values.
  KnownMatrix known = known_matrix(256, 64, integers(64, 1.5));
  for (double& sigma : known.sigma) sigma *= 8;
  TallSingularValues solver(64);
  for (int copy = 0; copy < 64; ++copy) solver.add_rows(copy % 3 == 0 ? -known.entries : known.entries);
  expect_within_bound(known.sigma, solver.finish());
}

TEST(TallSingularValues, of_fewer_rows_than_columns) {
  const Tensor a = gaussian(5, 30, 6);
  TallSingularValues solver(30);
  solver.add_rows(a.narrow(0, 0, 2));
  solver.add_rows(at::empty({0, 30}, at::kDouble));
  solver.add_rows(a.narrow(0, 2, 3));
  const SingularValues expected = singular_values(a), actual = solver.finish();
  ASSERT_EQ(5u, actual.values.size());
  for (std::size_t i = 0; i < 5; ++i)
    EXPECT_NEAR(expected.values[i], actual.values[i], expected.error_bound + actual.error_bound);
  EXPECT_TRUE(TallSingularValues(4).finish().values.empty());
  EXPECT_TRUE(TallSingularValues(0).finish().values.empty());
}

TEST(TallSingularValues, of_blocks_at_both_ends_of_the_range) {
  // Blocks 2^e H: the Gram matrix is 4 sum 4^e I. Every prefix, so that each exponent is the largest once.
  const Tensor h = hadamard(4, 8);
  const std::vector<int> exponents{-1070, -900, 0, 1000, 990};
  long double sum = 0;  // of 4^e: only extended precision has the range
  for (std::size_t size = 1; size <= exponents.size(); ++size) {
    TallSingularValues solver(4);
    for (std::size_t i = 0; i < size; ++i) solver.add_rows(h * std::ldexp(1.0, exponents[i]));
    sum += std::ldexp(1.0L, 2 * exponents[size - 1]);
    expect_within_bound(std::vector<double>(4, static_cast<double>(2 * std::sqrt(sum))), solver.finish());
  }
}

/// Singular values by the triangles of parts that end before these rows.
SingularValues by_parts(const Tensor& a, const std::vector<std::int64_t>& ends) {
  TallSingularValues together = TallSingularValues::of_triangles(a.size(1));
  std::int64_t first = 0;
  for (const std::int64_t end : ends) {
    TallSingularValues part(a.size(1));
    part.add_rows(a.narrow(0, first, end - first));
    const TriangleOfRows triangle = part.triangle();
    together.add_triangle(triangle.entries, triangle.facts);
    first = end;
  }
  return together.finish();
}

TEST(TallSingularValues, of_parts_are_those_of_the_whole) {
  // 150 columns are three panels of the merge, the last one narrower; parts of one block and of several.
  const Tensor a = gaussian(9000, 150, 14);
  const SingularValues whole = singular_values(a);
  const Tensor reference = at::linalg_svdvals(a);
  for (const std::vector<std::int64_t>& ends :
       {std::vector<std::int64_t>{9000}, {150, 9000}, {4500, 9000}, {300, 5000, 5151, 9000}}) {
    SCOPED_TRACE(testing::Message() << ends.size() << " parts, the first of " << ends.front());
    const SingularValues found = by_parts(a, ends);
    for (std::size_t i = 0; i < 150; ++i) {
      EXPECT_NEAR(whole.values[i], found.values[i], whole.error_bound + found.error_bound);
      EXPECT_NEAR(reference.const_data_ptr<double>()[i], found.values[i], 2 * found.error_bound);
    }
    EXPECT_LT(found.error_bound, 2 * whole.error_bound);
  }
}

TEST(TallSingularValues, of_parts_of_a_matrix_known_exactly) {
  KnownMatrix known = known_matrix(256, 64, integers(64, 1.5));
  for (double& sigma : known.sigma) sigma *= 2;
  const Tensor copies = at::cat({known.entries, -known.entries, known.entries, known.entries});
  expect_within_bound(known.sigma, by_parts(copies, {256, 512, 768, 1024}));
  expect_within_bound(known.sigma, by_parts(copies, {64, 900, 1024}));
}

TEST(TallSingularValues, of_parts_at_both_ends_of_the_range_and_of_zeros) {
  const Tensor h = hadamard(4, 8);
  const std::vector<int> exponents{-1070, -900, 0, 1000, 990};
  for (const bool are_reversed : {false, true})
    for (std::size_t size = 1; size <= exponents.size(); ++size) {
      long double sum = 0;
      std::vector<Tensor> parts;
      for (std::size_t i = 0; i < size; ++i) {
        parts.push_back(h * std::ldexp(1.0, exponents[i]));
        parts.push_back(at::zeros({4, 4}, at::kDouble));
        sum += std::ldexp(1.0L, 2 * exponents[i]);
      }
      if (are_reversed) std::reverse(parts.begin(), parts.end());
      std::vector<std::int64_t> ends;
      for (std::size_t i = 1; i <= parts.size(); ++i) ends.push_back(static_cast<std::int64_t>(4 * i));
      SCOPED_TRACE(testing::Message() << size << (are_reversed ? " reversed" : ""));
      expect_within_bound(std::vector<double>(4, static_cast<double>(2 * std::sqrt(sum))),
                          by_parts(at::cat(parts), ends));
    }
  EXPECT_EQ(by_parts(at::zeros({12, 4}, at::kDouble), {4, 12}).values, std::vector<double>(4, 0.0));
}

TEST(TallSingularValues, of_parts_have_the_same_bits_for_any_number_of_threads) {
  const Tensor a = gaussian(4000, 700, 15);
  set_compute_threads(1);
  const SingularValues one = by_parts(a, {1400, 2800, 4000});
  set_compute_threads(3);
  const SingularValues three = by_parts(a, {1400, 2800, 4000});
  set_compute_threads(1);
  EXPECT_EQ(one.values, three.values);
  EXPECT_EQ(one.error_bound, three.error_bound);
}

TEST(TallSingularValues, a_triangle_needs_as_much_memory_as_is_planned) {
  const std::int64_t n = 300;
  const Tensor a = gaussian(3 * n, n, 16);
  std::vector<TriangleOfRows> parts;
  for (std::int64_t i = 0; i < 2; ++i) {
    TallSingularValues part(n);
    part.add_rows(a.narrow(0, i * n, n + i * n));
    parts.push_back(part.triangle());
  }
  const Tensor tall = gaussian(6000, n, 17);
  const std::int64_t part_peak = peak_tensor_bytes([&] {
    TallSingularValues part(n);
    part.add_rows(tall);
    part.triangle();
  });
  const std::int64_t tile_bytes = 8 * (1 << 16);
  EXPECT_LE(part_peak, triangle_bytes(6000, n) + tile_bytes);
  EXPECT_GE(static_cast<double>(part_peak), 0.6 * static_cast<double>(triangle_bytes(6000, n)));

  const std::int64_t peak = peak_tensor_bytes([&] {
    TallSingularValues together = TallSingularValues::of_triangles(n);
    for (const auto& part : parts) together.add_triangle(part.entries, part.facts);
    together.finish();
  });
  EXPECT_LE(peak, join_bytes(n));
  EXPECT_GE(static_cast<double>(peak), 0.6 * static_cast<double>(join_bytes(n)));
}

TEST(SingularValues, flops_of_parts_and_their_join_are_those_of_the_whole) {
  const double parts = triangle_flops(5000, 300) + triangle_flops(4000, 300) + triangle_flops(1000, 300);
  EXPECT_NEAR(parts + join_flops(3, 300), singular_values_flops(10000, 300), 1.0);
}

TEST(TallSingularValues, hold_no_copy_of_a_tall_matrix) {
  const std::int64_t rows = 100000, columns = 64;
  const Tensor a = at::ones({1, columns}, at::kDouble).expand({rows, columns});
  const std::int64_t work_rows = columns + 2048, tile_entries = 1 << 16;
  const std::int64_t allowed = 8 * (2 * work_rows * columns + tile_entries + 8 * columns * columns);
  SingularValues found;
  const std::int64_t peak = peak_tensor_bytes([&] { found = singular_values(a); });
  std::vector<double> expected(static_cast<std::size_t>(columns), 0.0);
  expected.front() = std::sqrt(static_cast<double>(rows * columns));
  expect_within_bound(expected, found);  // equal entries: all roundings have one sign, and add up
  EXPECT_LE(peak, allowed);
  EXPECT_GT(peak, 8 * work_rows * columns);  // else the counting does not work
}

TEST(SingularValues, take_the_memory_that_is_planned) {
  // Tensors alone are counted: panels and band are not among them.
  for (const auto& [rows, columns] : std::vector<std::array<std::int64_t, 2>>{{700, 650}, {650, 700}, {6000, 300}}) {
    SCOPED_TRACE(testing::Message() << rows << " x " << columns);
    const Tensor a = gaussian(rows, columns, 3);
    const std::int64_t peak = peak_tensor_bytes([&] { singular_values(a); });
    const std::int64_t tile_bytes = 8 * (1 << 16), planned = singular_values_bytes(rows, columns);
    EXPECT_LE(peak, planned + tile_bytes);
    EXPECT_GE(static_cast<double>(peak), 0.6 * static_cast<double>(planned));
  }
}

TEST(SingularValues, hold_at_most_three_copies) {
  const Tensor a = gaussian(300, 280, 9);
  const std::int64_t matrix_bytes = 8 * a.numel(), tile_bytes = 8 * (1 << 16);
  const auto peak = [](const Tensor& w) { return peak_tensor_bytes([&] { singular_values(w); }); };
  EXPECT_LE(peak(a), 3 * matrix_bytes + tile_bytes);
  EXPECT_LE(peak(a.t()), 3 * matrix_bytes + tile_bytes);
}

}  // namespace
}  // namespace spectrace
