#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace spectrace {

/// Spectrum of the sheaf Laplacian Delta_F = L_G (x) W_V^T W_V of one head, from its two factors: its eigenvalues are
/// the products mu_a sigma_b^2 and nothing of size n D is built (docs/quantities.md, section 4).
struct SheafSummary {
  double lambda_max = 0;              ///< mu_n sigma_1^2
  double spectral_gap = 0;            ///< smallest non-zero eigenvalue; NaN if there is none
  double nullity = 0;                 ///< n D - rank
  double spectral_entropy = 0;        ///< -sum p ln p, p = lambda / Tr; 0 if the trace is 0
  std::vector<double> log_partition;  ///< ln sum exp(-beta lambda) over all n D eigenvalues; one a beta
};

/// Zero means <= max(n, D) 2^-52 times the largest, for mu and sigma^2 each; what is zero counts as exactly zero.
/// @pre graph_eigenvalues [n] ascending, singular_values [<= D] any order (the D - size missing ones are zero),
/// beta > 0. NaN in either factor gives NaN everywhere.
SheafSummary summarize_sheaf(std::span<const double> graph_eigenvalues, std::span<const double> singular_values,
                             std::int64_t hidden_size, std::span<const double> beta);

}  // namespace spectrace
