#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace spectrace {

/// A finite spectrum as the levels of a canonical ensemble: weights p = exp(-beta lambda) / Z, one number a beta
/// (docs/quantities.md, section 4).
struct Thermodynamics {
  /// All NaN: of a spectrum without eigenvalues, or not finite.
  explicit Thermodynamics(std::size_t num_beta);

  std::vector<double> log_partition;    ///< ln Z = ln sum exp(-beta lambda), nat
  std::vector<double> internal_energy;  ///< U = sum p lambda
  std::vector<double> heat_capacity;    ///< C = beta^2 sum p (lambda - U)^2
  std::vector<double> entropy;          ///< S = -sum p ln p = ln Z + beta U, nat
};

/// Levels of one factor of a product spectrum, and a table of f(y) = sum_b exp(-y r_b), r_b = (s_b - s_min) /
/// (s_max - s_min), as polynomials: whoever has many mu beside the same s takes a polynomial where |s| exponentials
/// would be needed. Takes about 200 |s| exponentials to make.
class FactorLevels {
 public:
  /// @pre s ascends and is > 0, finite; it may be empty.
  explicit FactorLevels(std::vector<double> s);

  const std::vector<double>& values() const { return s_; }
  double width() const { return s_.back() - s_.front(); }

  /// f(y), -f'(y) = sum r_b exp(-y r_b) and f''(y) = sum r_b^2 exp(-y r_b) for each y: `found` is [3, y]. To a few
  /// roundings, and 2^-56 of 1, 1 / y and 1 / y^2.
  /// @pre 0 <= y < kTableEnd, as many as a multiple of kTogether
  void sums(std::span<const double> y, std::span<double> found) const;
  static constexpr std::size_t kTogether = 16;

  static constexpr double kTableEnd = 1024.0;

 private:
  // f(Y - t) = sum_k t^k / k! sum_b r_b^k exp(-Y r_b): all terms are positive, Y is the upper end of y's interval.
  // Intervals are [0, 1/4) and sixteenths of the octaves above, so t <= Y / 17 there: the terms left out are below
  // |s| 17^-k (k + 2)^2 / sqrt(2 pi k), which is |s| 2^-64 for k = 17: 19 terms, 17 of f''.
  static std::size_t interval_of(double y);
  static double end_of(std::size_t interval);

  std::vector<double> s_;
  std::vector<double> table_;  // [interval, terms]
};

/// Of the eigenvalues mu_a s_b. With x = beta (lambda - smallest), Z' = sum exp(-x) >= 1: ln Z, U and S are good to a
/// few roundings of their parts, C to a few roundings of the mean of x^2 (docs/numerics.md).
/// @pre mu ascends and is > 0, finite; beta > 0. Where mu or s is empty all is NaN.
Thermodynamics thermodynamics(std::span<const double> mu, const FactorLevels& s, std::span<const double> beta);

}  // namespace spectrace
