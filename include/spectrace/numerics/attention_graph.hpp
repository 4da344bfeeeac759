#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "spectrace/numerics/tensor.hpp"

namespace spectrace {

// What the token graph of a head is beside its Laplacian's spectrum (docs/quantities.md, section 4).

/// Diagonal of D - A, d_i = sum_u a_ui / (n - i): what a token gets of those that see it, in the mean. Of a causal A
/// these are the eigenvalues of D - A (Binkowski et al. 2025, arXiv:2502.17598). [n]
/// @pre a is [n, n] on the host, float32 or float64, rows contiguous.
std::vector<double> directed_laplacian_diagonal(const Tensor& a);

/// tr(H^T L_G H) / tr(H^T H) of the token graph of a: sum over i != j of a_ij ||h_i - h_j||^2 / (2 sum ||h_i||^2). NaN
/// if H is 0.
/// @pre a as above; distances [n, n] float64, contiguous: ||h_i - h_j||^2.
double dirichlet_energy(const Tensor& a, const Tensor& distances, double sum_of_squares);

/// The two numbers of the attention matrix' own spectrum that say whether it has collapsed to one direction.
struct AttentionRank {
  double spectral_norm = 0;   ///< sigma_1 of A
  double effective_rank = 0;  ///< exp(-sum p ln p), p = sigma / sum sigma
};
/// @pre a as above, finite. @throws NumericalError if no route to its singular values converges.
AttentionRank attention_rank(const Tensor& a);

/// How levels lie beside each other (Oganesyan & Huse 2007): 0.386 in the mean where they are independent, 0.531 where
/// they repel each other as those of a random symmetric matrix.
struct LevelSpacing {
  double mean_ratio = 0;  ///< mean of min(s, s') / max(s, s') over neighbouring spacings; NaN for fewer than 3 levels
  std::int64_t num_levels = 0;  ///< that are not the same within their error
};
/// @param ascending each known to `error_bound`: neighbours that may be equal are one level.
LevelSpacing level_spacing(std::span<const double> ascending, double error_bound);

}  // namespace spectrace
