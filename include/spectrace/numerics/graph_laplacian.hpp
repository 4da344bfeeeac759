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

/// Eigenvalues of L_G = diag(sum_j w_ij) - w with w_ij = (a_ij + a_ji) / 2 for i != j, float64, of many heads whose
/// attention need not be there at the same time. Which heads come together has no effect on the bits.
class GraphSpectra {
 public:
  GraphSpectra();
  ~GraphSpectra();
  GraphSpectra(GraphSpectra&&) noexcept;
  GraphSpectra& operator=(GraphSpectra&&) noexcept;

  /// @pre a is [heads, n, n], float32 or float64; n is always the same. Attention on another device is brought to the
  /// host, some heads at a time.
  void add(const Tensor& a);
  /// Of all heads in the order in which they came; then there are none. Non-finite attention gives NaN eigenvalues.
  std::vector<GraphSpectrum> take();

 private:
  struct Reduced;
  std::vector<Reduced> heads_;
};

/// Of heads that are all there.
std::vector<GraphSpectrum> graph_spectra(const Tensor& a);
/// How far each eigenvalue of a graph of n tokens can be from the exact one, if the largest is so large
/// (docs/numerics.md, "Graph Laplacian").
double graph_eigenvalue_error(std::int64_t num_tokens, double largest);
/// What GraphSpectra needs beside its results for the heads of one prompt, on so many threads.
std::int64_t graph_spectra_bytes(std::int64_t num_heads, std::int64_t num_tokens, int num_threads);

/// Mean over the pairs j <= i of sqrt(a_ij): how many times ||W_V||_2 the restriction map sqrt(a_ij) W_V has on
/// average.
/// @pre a is [n, n], float64, contiguous, causal: zero for j > i.
double contraction_ratio(const Tensor& a);

}  // namespace spectrace
