#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "spectrace/numerics/thermodynamics.hpp"

namespace spectrace {

/// Spectrum of the sheaf Laplacian Delta_F = L_G (x) W_V^T W_V of one head, from its two factors: its eigenvalues are
/// the products mu_a sigma_b^2 and nothing of size n D is built (docs/quantities.md, section 4).
struct SheafSummary {
  /// All NaN.
  explicit SheafSummary(std::size_t num_beta);

  double lambda_max;                  ///< mu_n sigma_1^2
  double spectral_gap;                ///< smallest non-zero eigenvalue; NaN if there is none
  double nullity;                     ///< n D - rank
  double spectral_entropy;            ///< -sum p ln p, p = lambda / Tr; 0 if the trace is 0
  double graph_lambda_2;              ///< second smallest eigenvalue of L_G (Fiedler 1973); NaN for one token
  std::vector<double> log_partition;  ///< ln sum exp(-beta lambda) over all n D eigenvalues; one a beta
  Thermodynamics non_zero;            ///< over the non-zero eigenvalues; NaN if there are none
  Thermodynamics graph;               ///< over the non-zero mu of L_G alone; NaN if there are none
};

/// The factor W_V^T W_V of one head's sheaf Laplacian, which all prompts share: the squares of the singular values, and
/// what the partition functions of the non-zero ones are made from, at the first use.
class ValueLevels {
 public:
  /// @pre singular_values [<= D], any order; the D - size missing ones are zero.
  ValueLevels(std::span<const double> singular_values, std::int64_t hidden_size);

  std::int64_t hidden_size() const { return hidden_size_; }
  bool is_finite() const { return is_finite_; }
  const std::vector<double>& squares() const { return squares_; }  // ascending
  /// Those that are no zeros for prompts of up to hidden_size tokens. May be called by several threads.
  const FactorLevels& non_zero() const;

 private:
  std::int64_t hidden_size_;
  bool is_finite_;
  std::vector<double> squares_;
  mutable std::once_flag once_;
  mutable std::optional<FactorLevels> non_zero_;
};

/// The values of one factor that do not count as zero: those above size 2^-52 times the largest, size = max(n, D).
std::span<const double> non_zero_levels(std::span<const double> ascending, std::int64_t size);

/// Zero means <= max(n, D) 2^-52 times the largest, for mu and sigma^2 each; what is zero counts as exactly zero.
/// @pre graph_eigenvalues [n] ascending, beta > 0. NaN in either factor gives NaN everywhere.
SheafSummary summarize_sheaf(std::span<const double> graph_eigenvalues, const ValueLevels& values,
                             std::span<const double> beta);

}  // namespace spectrace
