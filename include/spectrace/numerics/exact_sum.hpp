#pragma once

#include <array>
#include <cstdint>
#include <span>

namespace spectrace {

/// Sums of finite doubles without any rounding: a long fixed-point number in 64-bit chunks that lie 32 bits apart
/// (the small superaccumulator of Neal 2015, arXiv:1505.05571). Two sums add chunk by chunk, as plain int64: that is
/// what MPI_SUM and ncclSum do, so the sum over ranks has the same bits for any number of ranks and any order.
///
/// kScale 1 holds sums of x, kScale 2 holds sums of x^2 (exact: a 106-bit product, twice the exponent range).
///
/// Chunk i stands for chunks()[i] * 2^(32 i - 1074 kScale). Before sums are added from outside, each has to be
/// normalized; after that, normalize the result before more numbers are added to it.
template <int kScale>
class ExactSum {
  static_assert(kScale == 1 || kScale == 2);

 public:
  /// Chunks cover 2^(-1074 kScale) up to 2^(1024 kScale), times 2^62 terms, and a sign.
  static constexpr int kNumChunks = (kScale * (1074 + 1024) + 63) / 32 + 1;

  /// Adds x (kScale 1) or x^2 (kScale 2). @pre x is finite.
  void add(double x);
  /// The nearest double (ties to even) of the exact sum; +-inf if it is out of range.
  double round() const;
  /// Brings every chunk but the top one into [0, 2^32): leaves room for adding 2^31 such sums by int64 addition.
  void normalize();

  std::span<std::int64_t> chunks() { return chunks_; }
  std::span<const std::int64_t> chunks() const { return chunks_; }

 private:
  std::array<std::int64_t, kNumChunks> chunks_{};
  int num_adds_ = 0;  // since the last normalize: a chunk has room for 2^30
};

/// Mean and standard deviation of numbers whose sums are exact. The mean is correctly rounded, the std within 1 ulp:
/// the difference count * sum x^2 - (sum x)^2 is formed exactly, so nothing cancels and equal numbers have std 0.
struct Moments {
  double mean = 0;  ///< NaN if count is 0
  double std = 0;   ///< unbiased; NaN if count < 2
};
/// @pre both sums are over the same `count` numbers.
Moments moments(std::int64_t count, const ExactSum<1>& sum, const ExactSum<2>& sum_of_squares);

}  // namespace spectrace
