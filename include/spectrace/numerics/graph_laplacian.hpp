#pragma once

#include <cstdint>
#include <vector>

#include "spectrace/numerics/tensor.hpp"

namespace spectrace {

/// Spectrum of the token graph of one attention matrix (docs/quantities.md, section 4).
struct GraphSpectrum {
  std::vector<double> eigenvalues;  ///< mu of L_G, ascending, [n]
  double off_diagonal_sum = 0;      ///< sum A - tr A, float64
};

/// Eigenvalues of L_G = diag(sum_j w_ij) - w with w_ij = (a_ij + a_ji) / 2 for i != j, float64.
/// @pre a is [heads, n, n], float32 or float64. One entry a head. Non-finite attention gives NaN eigenvalues. Always
/// done by the host, with the same bits; attention on another device is brought over, some heads at a time.
std::vector<GraphSpectrum> graph_spectra(const Tensor& a);
/// Heads whose Laplacians graph_spectra has in memory at once, [batch, n, n] float64, and the solver a second time.
std::int64_t graph_spectra_batch(std::int64_t num_heads, std::int64_t num_tokens);

/// Mean over the pairs j <= i of sqrt(a_ij): how many times ||W_V||_2 the restriction map sqrt(a_ij) W_V has on
/// average.
/// @pre a is [n, n], float64, contiguous, causal: zero for j > i.
double contraction_ratio(const Tensor& a);

}  // namespace spectrace
