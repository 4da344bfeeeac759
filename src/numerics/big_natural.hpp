#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace spectrace {

__extension__ typedef unsigned __int128 Uint128;

/// A natural number of any size, for the few exact operations that moments need. Least significant limb first, no zero
/// limb on top.
class BigNatural {
 public:
  BigNatural() = default;
  /// From limbs that may each hold more than 32 bits. @pre all >= 0.
  static BigNatural from_chunks(std::span<const std::int64_t> chunks);

  bool is_zero() const { return limbs_.empty(); }
  BigNatural squared() const;
  BigNatural times(std::uint64_t factor) const;
  /// @pre other <= *this.
  BigNatural minus(const BigNatural& other) const;
  /// *this * 2^(32 num_limbs)
  BigNatural shifted_left(int num_limbs) const;

  /// Divides by `divisor`, rounding down; true if something was left over. @pre divisor > 0.
  bool divide(std::uint64_t divisor);

  /// mantissa * 2^exponent with the top bit of mantissa set, cut off below 64 bits; inexact says that bits were lost.
  struct Leading {
    std::uint64_t mantissa = 0;
    std::int64_t exponent = 0;
    bool inexact = false;
  };
  Leading leading() const;

 private:
  void trim();
  std::vector<std::uint32_t> limbs_;
};

/// The double nearest to number * 2^exponent, ties to even, subnormals and overflow included. `more` says that the true
/// number is a little larger, by less than one.
double nearest_double(const BigNatural& number, std::int64_t exponent, bool more = false);

}  // namespace spectrace
