#pragma once

#include <cstdint>
#include <vector>

#include "spectrace/numerics/tensor.hpp"

namespace spectrace {

/// How the vectors of one prompt's tokens lie at one place of the residual stream (docs/quantities.md, section 5).
struct TokenGeometry {
  double max_abs_entry = 0;          ///< largest |entry|
  std::int64_t max_abs_token = 0;    ///< where the first such entry is
  std::int64_t max_abs_channel = 0;  ///< the same
  double massive_ratio = 0;          ///< max_abs_entry over the lower median of all |entries| (Sun et al. 2024)
  double kurtosis = 0;               ///< m_4 / m_2^2 - 3 of all entries; NaN if they are equal
  double matrix_entropy = 0;         ///< -sum p ln p, nat, p: eigenvalues of H H^T / tr; NaN if H is 0
  double anisotropy = 0;  ///< mean cosine over pairs of different tokens; NaN for one token, or a vector of 0
};

/// @pre h is [n, D] on the host, float32 or float64, finite; n, D > 0. On the calling thread alone.
TokenGeometry token_geometry(const Tensor& h);
/// Bytes that it takes beside h.
std::int64_t token_geometry_bytes(std::int64_t num_tokens, std::int64_t hidden_size);
/// Of its Gram matrix and that one's eigenvalues.
double token_geometry_flops(std::int64_t num_tokens, std::int64_t hidden_size);

/// ||h_i - h_j||^2 of every two tokens, [n, n] float64, from their inner products: to n u of the larger one's square.
/// @pre h is [n, D] on the host. On the calling thread alone.
Tensor squared_distances(const Tensor& h);

/// Cosines of rows with the same place, [rows]. NaN where one is 0.
/// @pre a and b are [rows, D] of one type, float32 or float64, on one device, rows contiguous.
std::vector<double> row_cosines(const Tensor& a, const Tensor& b);

}  // namespace spectrace
