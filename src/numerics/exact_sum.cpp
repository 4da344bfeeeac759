#include "spectrace/numerics/exact_sum.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "big_natural.hpp"
#include "spectrace/core/error.hpp"
#include "spectrace/core/floats.hpp"

namespace spectrace {
namespace {

constexpr int kLowestExponent = -1074;  // of the smallest subnormal
constexpr int kMaxAdds = 1 << 20;       // 2^30 would fit; a carry every million adds costs nothing either
constexpr std::uint64_t kLowHalf = 0xffffffffu;

/// |x| as mantissa * 2^(position - 1074), an integer at a place of the fixed-point number.
struct FixedPoint {
  std::uint64_t mantissa;
  int position;
};

FixedPoint fixed_point(double x) {
  const auto bits = std::bit_cast<std::uint64_t>(x);
  const int exponent = static_cast<int>(bits >> 52) & 0x7ff;
  const std::uint64_t fraction = bits & ((std::uint64_t{1} << 52) - 1);
  SPECTRACE_ASSERT(exponent != 0x7ff);
  if (exponent == 0) return {fraction, 0};
  return {fraction | (std::uint64_t{1} << 52), exponent - 1};
}

/// Adds +-word * 2^shift to the number whose lowest chunk is chunks[0]. @pre shift < 32.
void add_word(std::int64_t* chunks, std::uint64_t word, int shift, bool negative) {
  const Uint128 wide = static_cast<Uint128>(word) << shift;
  for (int i = 0; i < 3; ++i) {
    const auto part = static_cast<std::int64_t>(static_cast<std::uint64_t>(wide >> (32 * i)) & kLowHalf);
    chunks[i] += negative ? -part : part;
  }
}

/// Carries upwards: every chunk but the top one ends in [0, 2^32).
template <typename Chunks>
void propagate(Chunks& chunks) {
  for (std::size_t i = 0; i + 1 < chunks.size(); ++i) {
    chunks[i + 1] += chunks[i] >> 32;
    chunks[i] &= static_cast<std::int64_t>(kLowHalf);
  }
}

/// +-magnitude * 2^exponent
struct SignedNumber {
  BigNatural magnitude;
  std::int64_t exponent = 0;
  bool negative = false;
};

template <int kScale>
SignedNumber exact_value(const ExactSum<kScale>& sum) {
  const std::int64_t exponent = kScale * kLowestExponent + 32 * sum.first_chunk();
  std::vector<std::int64_t> chunks(sum.chunks().begin(), sum.chunks().end());
  propagate(chunks);
  // Below the top chunk all are >= 0 and together less than one unit of it: its sign is the sign of the sum.
  const bool negative = !chunks.empty() && chunks.back() < 0;
  if (negative) {
    for (auto& chunk : chunks) chunk = -chunk;
    propagate(chunks);
  }
  return {BigNatural::from_chunks(chunks), exponent, negative};
}

double with_sign(double magnitude, bool negative) { return negative ? -magnitude : magnitude; }

/// sqrt(number * 2^exponent), within 1 ulp.
double square_root(const BigNatural& number, std::int64_t exponent) {
  if (number.is_zero()) return 0.0;
  const BigNatural::Leading leading = number.leading();
  exponent += leading.exponent;
  const int odd = static_cast<int>(exponent & 1);
  const double root = std::sqrt(std::ldexp(static_cast<double>(leading.mantissa), odd));
  return std::ldexp(root, static_cast<int>((exponent - odd) / 2));
}

}  // namespace

template <int kScale>
std::int64_t* ExactSum<kScale>::reach(int first, std::size_t count) {
  if (chunks_.empty()) first_ = first;
  if (first < first_) {
    chunks_.insert(chunks_.begin(), static_cast<std::size_t>(first_ - first), 0);
    first_ = first;
  }
  const auto place = static_cast<std::size_t>(first - first_);
  if (chunks_.size() < place + count) chunks_.resize(place + count, 0);
  return chunks_.data() + place;
}

template <int kScale>
void ExactSum<kScale>::add(double x) {
  const auto [mantissa, position] = fixed_point(x);
  if (mantissa == 0) return;  // it would reach the lowest chunk
  if (num_adds_ == kMaxAdds) normalize();
  ++num_adds_;
  std::int64_t* const lowest = reach(kScale * position / 32, kNumChunksOfOne);
  const int shift = kScale * position % 32;
  if constexpr (kScale == 1) {
    add_word(lowest, mantissa, shift, std::signbit(x));
  } else {
    const Uint128 square = static_cast<Uint128>(mantissa) * mantissa;
    add_word(lowest, static_cast<std::uint64_t>(square), shift, false);
    add_word(lowest + 2, static_cast<std::uint64_t>(square >> 64), shift, false);
  }
}

template <int kScale>
void ExactSum<kScale>::add(const ExactSum& other) {
  ExactSum term = other;
  term.normalize();
  normalize();
  if (term.chunks_.empty()) return;
  std::int64_t* const lowest = reach(term.first_, term.chunks_.size());
  for (std::size_t i = 0; i < term.chunks_.size(); ++i) lowest[i] += term.chunks_[i];
}

template <int kScale>
void ExactSum<kScale>::add_chunks(int first, c10::ArrayRef<std::int64_t> chunks) {
  // Zeros at the ends reach nothing.
  std::size_t begin = 0, end = chunks.size();
  while (begin < end && chunks[begin] == 0) ++begin;
  while (begin < end && chunks[end - 1] == 0) --end;
  if (begin == end) return;
  normalize();
  // One above for carries and the sign.
  std::int64_t* const lowest = reach(first + static_cast<int>(begin), end - begin + 1);
  for (std::size_t i = begin; i < end; ++i) lowest[i - begin] += chunks[i];
  normalize();
}

template <int kScale>
double ExactSum<kScale>::round() const {
  const SignedNumber value = exact_value(*this);
  return with_sign(nearest_double(value.magnitude, value.exponent), value.negative);
}

template <int kScale>
void ExactSum<kScale>::normalize() {
  propagate(chunks_);
  num_adds_ = 0;
}

template class ExactSum<1>;
template class ExactSum<2>;

double norm(const ExactSum<2>& sum_of_squares) {
  const double rounded = sum_of_squares.round();
  if (rounded >= std::numeric_limits<double>::min() && std::isfinite(rounded)) return std::sqrt(rounded);
  const SignedNumber exact = exact_value(sum_of_squares);
  return square_root(exact.magnitude, exact.exponent);
}

Moments moments(std::int64_t count, const ExactSum<1>& sum, const ExactSum<2>& sum_of_squares) {
  if (count <= 0) return {kNaN, kNaN};
  const auto n = static_cast<std::uint64_t>(count);
  const SignedNumber total = exact_value(sum);

  // So that dividing a number by n leaves 64 bits of it, and by n (n - 1) too; what is left over rounds the rest.
  constexpr int kNumGuardLimbs = 6;
  BigNatural quotient = total.magnitude.shifted_left(kNumGuardLimbs);
  const bool more = quotient.divide(n);
  Moments result;
  result.mean = with_sign(nearest_double(quotient, total.exponent - 32 * kNumGuardLimbs, more), total.negative);
  if (count < 2) return {result.mean, kNaN};

  // Cauchy-Schwarz: the difference of the exact numbers is never negative.
  const SignedNumber squares = exact_value(sum_of_squares);
  const std::int64_t exponent = std::min(squares.exponent, 2 * total.exponent);
  const auto limbs_above = [&](std::int64_t higher) { return static_cast<int>((higher - exponent) / 32); };
  BigNatural variance = squares.magnitude.times(n)
                            .shifted_left(limbs_above(squares.exponent))
                            .minus(total.magnitude.squared().shifted_left(limbs_above(2 * total.exponent)))
                            .shifted_left(kNumGuardLimbs);
  variance.divide(n);
  variance.divide(n - 1);
  result.std = square_root(variance, exponent - 32 * kNumGuardLimbs);
  return result;
}

}  // namespace spectrace
