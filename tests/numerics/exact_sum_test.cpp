#include "spectrace/numerics/exact_sum.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <random>
#include <vector>

#include "numerics/golden.hpp"

namespace spectrace {
namespace {

__extension__ typedef __int128 Int128;

template <int kScale>
ExactSum<kScale> sum_of(const std::vector<double>& terms) {
  ExactSum<kScale> sum;
  for (const double term : terms) sum.add(term);
  return sum;
}

/// Bits, but one NaN is as good as another and the sign of zero is not kept.
void expect_same(double expected, double actual) {
  if (std::isnan(expected))
    EXPECT_TRUE(std::isnan(actual)) << actual;
  else
    EXPECT_EQ(expected, actual);
}

std::vector<double> numbers_of_all_sizes(int count, std::uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<double> numbers;
  for (int i = 0; i < count; ++i) {
    const double mantissa = std::ldexp(static_cast<double>(random()) - 0x1p31, -32);
    numbers.push_back(std::ldexp(mantissa, static_cast<int>(random() % 2090) - 1073));
  }
  return numbers;
}

TEST(ExactSum, agrees_with_rational_arithmetic) {
  golden("exact_sums.json").for_each([](const JsonNode& node) {
    SCOPED_TRACE(node.at("name").as_string());
    const std::vector<double> terms = golden_numbers(node.at("terms"));
    const auto sum = sum_of<1>(terms);
    const auto squares = sum_of<2>(terms);
    expect_same(golden_number(node.at("sum")), sum.round());
    expect_same(golden_number(node.at("sum_of_squares")), squares.round());
    const Moments result = moments(static_cast<std::int64_t>(terms.size()), sum, squares);
    expect_same(golden_number(node.at("mean")), result.mean);
    const double std = golden_number(node.at("std"));
    if (!std::isfinite(std) || std == 0.0)
      expect_same(std, result.std);
    else
      EXPECT_NEAR(std, result.std, ulp(std));
  });
}

TEST(ExactSum, rounds_as_a_long_integer_does) {
  std::mt19937_64 random(7);
  for (int repeat = 0; repeat < 200; ++repeat) {
    ExactSum<1> sum;
    Int128 exact = 0;
    for (int i = 0; i < 50; ++i) {
      const auto term = static_cast<std::int64_t>(random()) >> 11;  // 53 bits
      const int shift = static_cast<int>(random() % 60);
      sum.add(std::ldexp(static_cast<double>(term), shift));
      exact += static_cast<Int128>(term) * (static_cast<Int128>(1) << shift);
    }
    EXPECT_EQ(static_cast<double>(exact), sum.round());
  }
}

/// With every carry taken: equal sums of the same terms have equal chunks then.
template <int kScale>
ExactSum<kScale> normalized(const ExactSum<kScale>& sum) {
  ExactSum<kScale> result;
  result.add(sum);
  return result;
}

template <int kScale>
void expect_same_chunks(const ExactSum<kScale>& expected, const ExactSum<kScale>& actual) {
  const ExactSum<kScale> a = normalized(expected), b = normalized(actual);
  EXPECT_EQ(a.first_chunk(), b.first_chunk());
  EXPECT_TRUE(std::ranges::equal(a.chunks(), b.chunks()));
}

TEST(ExactSum, order_and_split_leave_no_trace) {
  std::vector<double> terms = numbers_of_all_sizes(1000, 3);
  const ExactSum<1> whole = sum_of<1>(terms);
  const ExactSum<2> whole_squares = sum_of<2>(terms);
  std::mt19937 random(5);
  for (const std::size_t num_parts : {1, 2, 3, 7, 1000}) {
    std::shuffle(terms.begin(), terms.end(), random);
    ExactSum<1> sum;
    ExactSum<2> squares;
    for (std::size_t part = 0; part < num_parts; ++part) {
      ExactSum<1> part_sum;
      ExactSum<2> part_squares;
      for (std::size_t i = part; i < terms.size(); i += num_parts) {
        part_sum.add(terms[i]);
        part_squares.add(terms[i]);
      }
      sum.add(part_sum);
      squares.add(part_squares);
    }
    SCOPED_TRACE(num_parts);
    expect_same_chunks(whole, sum);
    expect_same_chunks(whole_squares, squares);
    EXPECT_EQ(whole.round(), sum.round());
  }
}

TEST(ExactSum, keeps_only_the_chunks_that_its_terms_reach) {
  ExactSum<1> sum;
  ExactSum<2> squares;
  for (const double term : {0.0, 1.5, -2.25, 0.0, 3.0}) {
    sum.add(term);
    squares.add(term);
  }
  EXPECT_LE(sum.chunks().size(), ExactSum<1>::kNumChunksOfOne + 1);
  EXPECT_LE(squares.chunks().size(), ExactSum<2>::kNumChunksOfOne + 2);
  EXPECT_EQ(2.25, sum.round());
  // A tiny number and a huge one later are not lost, nor what was there.
  for (const double term : {0x1p-1074, 0x1p1023}) {
    sum.add(term);
    squares.add(term);
  }
  sum.add(-0x1p1023);
  sum.add(-2.25);
  EXPECT_EQ(0x1p-1074, sum.round());
}

/// The same sum 2^power times.
template <int kScale>
void repeat(ExactSum<kScale>& sum, int power) {
  for (int i = 0; i < power; ++i) sum.add(sum);
}

TEST(ExactSum, has_room_for_many_terms) {
  for (const double sign : {1.0, -1.0}) {
    ExactSum<1> sum;
    double expected = 0;
    for (int exponent = -200; exponent < 200; exponent += 50) {
      const double term = sign * std::ldexp(0x1p53 - 1, exponent);
      sum.add(term);
      expected = term;
    }
    const double once = sum.round();
    repeat(sum, 61);
    EXPECT_EQ(once * 0x1p61, sum.round());
    EXPECT_NEAR(expected, once, std::abs(expected) * 0x1p-40);
  }
}

TEST(ExactSum, mean_of_few_bits_is_rounded_like_any_other) {
  // 1 and 2 have their bits in one chunk: those of a third come from below it.
  ExactSum<1> sum;
  ExactSum<2> squares;
  for (const double term : {1.0, 2.0, 1.0}) {
    sum.add(term);
    squares.add(term);
  }
  const Moments result = moments(3, sum, squares);
  EXPECT_EQ(4.0 / 3.0, result.mean);
  EXPECT_EQ(std::sqrt(1.0 / 3.0), result.std);
}

TEST(ExactSum, carries_over_many_adds) {
  ExactSum<1> sum;
  ExactSum<2> squares;
  const double term = -(0x1p53 - 1);
  const int count = (1 << 21) + 5;  // past the point where chunks are normalized on the way
  for (int i = 0; i < count; ++i) {
    sum.add(term);
    squares.add(term);
  }
  const auto exact = static_cast<Int128>((std::int64_t{1} << 53) - 1) * count;
  EXPECT_EQ(-static_cast<double>(exact), sum.round());
  const Moments result = moments(count, sum, squares);
  EXPECT_EQ(term, result.mean);
  EXPECT_EQ(0.0, result.std);
}

TEST(ExactSum, moments_of_more_numbers_than_32_bits_count) {
  ExactSum<1> sum;
  ExactSum<2> squares;
  for (const double term : {1.0, 3.0}) {
    sum.add(term);
    squares.add(term);
  }
  ExactSum<1> other_sum = sum;
  ExactSum<2> other_squares = squares;
  repeat(sum, 32);
  repeat(squares, 32);
  repeat(other_sum, 31);
  repeat(other_squares, 31);
  sum.add(other_sum);
  squares.add(other_squares);
  const std::int64_t count = std::int64_t{6} << 31;
  const Moments result = moments(count, sum, squares);
  EXPECT_EQ(2.0, result.mean);
  EXPECT_DOUBLE_EQ(std::sqrt(static_cast<double>(count) / static_cast<double>(count - 1)), result.std);
}

TEST(ExactSum, norms_reach_as_far_as_doubles_do) {
  EXPECT_EQ(0.0, norm(sum_of<2>({})));
  EXPECT_EQ(5.0, norm(sum_of<2>({3.0, -4.0})));
  // Squares beyond both ends of the range, and in what has lost digits there.
  for (const int exponent : {-1070, -600, -538, -510, 510, 600, 1020}) {
    const double scale = std::ldexp(1.0, exponent);
    EXPECT_EQ(13.0 * scale, norm(sum_of<2>({3.0 * scale, 4.0 * scale, -12.0 * scale}))) << exponent;
  }
  EXPECT_EQ(HUGE_VAL, norm(sum_of<2>({0x1.8p1023, 0x1.8p1023})));
}

TEST(ExactSum, norms_have_the_bits_of_the_rounded_sums_root) {
  for (std::uint32_t seed = 0; seed < 200; ++seed) {
    std::mt19937 random(seed);
    std::normal_distribution<double> normal(0.0, std::ldexp(1.0, static_cast<int>(seed) * 5 - 500));
    std::vector<double> terms(1 + seed % 7);
    for (double& term : terms) term = normal(random);
    const auto squares = sum_of<2>(terms);
    EXPECT_EQ(std::sqrt(squares.round()), norm(squares)) << seed;
  }
}

// As ranks lay their sums out: alike, over the chunks that any of them reaches.
TEST(ExactSum, chunks_of_several_sums_add_up) {
  std::vector<double> numbers = numbers_of_all_sizes(300, 11);
  for (const double number : {-1.0, -0x1p-1074, 0x1.fffffffffffffp1023, -3.5, -3.5}) numbers.push_back(number);
  const auto whole = sum_of<1>(numbers);
  const auto squares = sum_of<2>(numbers);
  constexpr std::size_t kParts = 4;
  constexpr std::size_t kFar = 80, kFarSquares = 150;  // chunks that doubles reach
  std::vector<std::int64_t> chunks(kFar), chunks_of_squares(kFarSquares);
  for (std::size_t part = 0; part < kParts; ++part) {
    ExactSum<1> sum;
    ExactSum<2> square;
    // One part is empty.
    for (std::size_t i = part; i <= numbers.size() && part > 0; i += kParts - 1) {
      sum.add(numbers[i - 1]);
      square.add(numbers[i - 1]);
    }
    sum.normalize();
    square.normalize();
    for (std::size_t c = 0; c < sum.chunks().size(); ++c)
      chunks[static_cast<std::size_t>(sum.first_chunk()) + c] += sum.chunks()[c];
    for (std::size_t c = 0; c < square.chunks().size(); ++c)
      chunks_of_squares[static_cast<std::size_t>(square.first_chunk()) + c] += square.chunks()[c];
  }
  ExactSum<1> sum;
  ExactSum<2> square;
  sum.add_chunks(0, chunks);
  square.add_chunks(0, chunks_of_squares);
  EXPECT_EQ(sum.round(), whole.round());
  EXPECT_EQ(square.round(), squares.round());
}

TEST(ExactSum, moments_need_enough_numbers) {
  ExactSum<1> sum;
  ExactSum<2> squares;
  EXPECT_TRUE(std::isnan(moments(0, sum, squares).mean));
  sum.add(2.5);
  squares.add(2.5);
  EXPECT_EQ(2.5, moments(1, sum, squares).mean);
  EXPECT_TRUE(std::isnan(moments(1, sum, squares).std));
}

}  // namespace
}  // namespace spectrace
