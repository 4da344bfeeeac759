#include "big_natural.hpp"

#include <bit>
#include <cmath>

#include "spectrace/core/error.hpp"

namespace spectrace {
namespace {

/// Divides in place. True if the division leaves a rest. @pre divisor * 2^32 fits a Wide.
template <typename Wide>
bool divide_limbs(std::vector<std::uint32_t>& limbs, std::uint64_t divisor) {
  Wide rest = 0;
  for (std::size_t i = limbs.size(); i-- > 0;) {
    rest = (rest << 32) | limbs[i];
    limbs[i] = static_cast<std::uint32_t>(rest / divisor);
    rest %= divisor;
  }
  return rest != 0;
}

}  // namespace

void BigNatural::trim() {
  while (!limbs_.empty() && limbs_.back() == 0) limbs_.pop_back();
}

BigNatural BigNatural::from_chunks(std::span<const std::int64_t> chunks) {
  BigNatural result;
  result.limbs_.reserve(chunks.size() + 2);
  Uint128 carry = 0;
  for (const std::int64_t chunk : chunks) {
    SPECTRACE_ASSERT(chunk >= 0);
    carry += static_cast<std::uint64_t>(chunk);
    result.limbs_.push_back(static_cast<std::uint32_t>(carry));
    carry >>= 32;
  }
  for (; carry != 0; carry >>= 32) result.limbs_.push_back(static_cast<std::uint32_t>(carry));
  result.trim();
  return result;
}

BigNatural BigNatural::squared() const {
  BigNatural result;
  result.limbs_.assign(2 * limbs_.size(), 0);
  for (std::size_t i = 0; i < limbs_.size(); ++i) {
    if (limbs_[i] == 0) continue;  // sums of doubles that lie near each other have few limbs that are not
    std::uint64_t carry = 0;
    for (std::size_t j = 0; j < limbs_.size(); ++j) {
      carry += static_cast<std::uint64_t>(limbs_[i]) * limbs_[j] + result.limbs_[i + j];
      result.limbs_[i + j] = static_cast<std::uint32_t>(carry);
      carry >>= 32;
    }
    result.limbs_[i + limbs_.size()] = static_cast<std::uint32_t>(carry);
  }
  result.trim();
  return result;
}

BigNatural BigNatural::times(std::uint64_t factor) const {
  BigNatural result;
  result.limbs_.reserve(limbs_.size() + 2);
  Uint128 carry = 0;
  for (const std::uint32_t limb : limbs_) {
    carry += static_cast<Uint128>(limb) * factor;
    result.limbs_.push_back(static_cast<std::uint32_t>(carry));
    carry >>= 32;
  }
  for (; carry != 0; carry >>= 32) result.limbs_.push_back(static_cast<std::uint32_t>(carry));
  result.trim();
  return result;
}

BigNatural BigNatural::minus(const BigNatural& other) const {
  SPECTRACE_ASSERT(other.limbs_.size() <= limbs_.size());
  BigNatural result = *this;
  std::int64_t borrow = 0;
  for (std::size_t i = 0; i < limbs_.size(); ++i) {
    borrow += limbs_[i];
    if (i < other.limbs_.size()) borrow -= other.limbs_[i];
    result.limbs_[i] = static_cast<std::uint32_t>(borrow);
    borrow >>= 32;
  }
  SPECTRACE_ASSERT(borrow == 0);
  result.trim();
  return result;
}

BigNatural BigNatural::shifted_left(int num_limbs) const {
  BigNatural result = *this;
  result.limbs_.insert(result.limbs_.begin(), static_cast<std::size_t>(num_limbs), 0);
  result.trim();
  return result;
}

bool BigNatural::divide(std::uint64_t divisor) {
  SPECTRACE_ASSERT(divisor > 0);
  // A division of 128 bits costs several times one of 64, which are enough for counts below 2^32.
  const bool is_some_left =
      divisor >> 32 == 0 ? divide_limbs<std::uint64_t>(limbs_, divisor) : divide_limbs<Uint128>(limbs_, divisor);
  trim();
  return is_some_left;
}

BigNatural::Leading BigNatural::leading() const {
  if (is_zero()) return {};
  // The three limbs on top hold 64 bits wherever the first bit lies.
  Uint128 top = 0;
  const std::size_t size = limbs_.size();
  for (std::size_t i = 1; i <= 3; ++i) top = (top << 32) | (i <= size ? limbs_[size - i] : 0);
  const int num_leading_zeros = std::countl_zero(limbs_.back());
  const int num_dropped = 32 - num_leading_zeros;
  Leading result;
  result.mantissa = static_cast<std::uint64_t>(top >> num_dropped);
  result.exponent = 32 * (static_cast<std::int64_t>(size) - 3) + num_dropped;
  result.inexact = (top & ((Uint128{1} << num_dropped) - 1)) != 0;
  for (std::size_t i = 0; i + 3 < size && !result.inexact; ++i) result.inexact = limbs_[i] != 0;
  return result;
}

double nearest_double(const BigNatural& number, std::int64_t exponent, bool more) {
  const BigNatural::Leading leading = number.leading();
  if (leading.mantissa == 0) return 0.0;
  exponent += leading.exponent;
  const bool sticky = more || leading.inexact;
  // 11 of the 64 bits do not fit a normal double; below 2^-1022 the last bit stays at 2^-1074.
  const std::int64_t num_dropped = std::max<std::int64_t>(11, -1074 - exponent);
  if (num_dropped > 64) return 0.0;
  if (exponent > 1024) return HUGE_VAL;
  const Uint128 mantissa = leading.mantissa;
  const Uint128 half = Uint128{1} << (num_dropped - 1);
  const Uint128 rest = mantissa & ((half << 1) - 1);
  auto kept = static_cast<std::uint64_t>(mantissa >> num_dropped);
  if (rest > half || (rest == half && (sticky || (kept & 1) != 0))) ++kept;
  return std::ldexp(static_cast<double>(kept), static_cast<int>(exponent + num_dropped));
}

}  // namespace spectrace
