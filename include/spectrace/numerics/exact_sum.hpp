#pragma once

#include <c10/util/SmallVector.h>

#include <cstdint>

namespace spectrace {

/// Sums of finite doubles without any rounding: a long fixed-point number in 64-bit chunks that lie 32 bits apart
/// (the small superaccumulator of Neal 2015, arXiv:1505.05571), of which only those are there that the numbers so far
/// reach. The sum, and so what is made of it, does not depend on the order of its terms.
///
/// kScale 1 holds sums of x, kScale 2 holds sums of x^2 (exact: a 106-bit product, twice the exponent range).
template <int kScale>
class ExactSum {
  static_assert(kScale == 1 || kScale == 2);

 public:
  /// Those that one number reaches, and one above for carries and the sign: room for 2^62 terms.
  static constexpr std::size_t kNumChunksOfOne = (kScale == 1 ? 3 : 5) + 1;

  /// Adds x (kScale 1) or x^2 (kScale 2). @pre x is finite.
  void add(double x);
  /// Adds all that another sum holds.
  void add(const ExactSum& other);
  /// Adds what lies in the chunks from `first` on: those of another sum that was normalized, or such chunks of at most
  /// 2^30 sums added up.
  void add_chunks(int first, c10::ArrayRef<std::int64_t> chunks);
  /// Carries upwards: then every chunk but the top one is in [0, 2^32), and the top one less than the number of terms.
  void normalize();
  /// The nearest double (ties to even) of the exact sum; +-inf if it is out of range.
  double round() const;

  /// Chunk i stands for chunks()[i] * 2^(32 (first_chunk() + i) - 1074 kScale).
  c10::ArrayRef<std::int64_t> chunks() const { return chunks_; }
  int first_chunk() const { return first_; }

 private:
  /// Makes `count` chunks from `first` on be there; returns the place of `first`.
  std::int64_t* reach(int first, std::size_t count);

  // Without memory of their own for numbers whose exponents differ by less than 32, and mostly by less than 64.
  c10::SmallVector<std::int64_t, kNumChunksOfOne + 2> chunks_;
  int first_ = 0;
  int num_adds_ = 0;  // since the last normalize: a chunk has room for 2^30
};

/// The norm of numbers whose sum of squares is exact, within 1 ulp: finite wherever the norm is, though the sum may be
/// beyond the range of doubles. inf only where the norm is beyond it too.
double norm(const ExactSum<2>& sum_of_squares);

/// Mean and standard deviation of numbers whose sums are exact. The mean is correctly rounded, the std within 1 ulp:
/// the difference count * sum x^2 - (sum x)^2 is formed exactly, so nothing cancels and equal numbers have std 0.
struct Moments {
  double mean = 0;  ///< NaN if count is 0
  double std = 0;   ///< unbiased; NaN if count < 2
};
/// @pre both sums are over the same `count` numbers.
Moments moments(std::int64_t count, const ExactSum<1>& sum, const ExactSum<2>& sum_of_squares);

}  // namespace spectrace
