#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include "spectrace/numerics/tensor.hpp"

namespace spectrace {

/// What the softmax of one row of scores z over a vocabulary comes to, which comes in parts and is never there whole.
struct ScoreSums {
  double largest = -std::numeric_limits<double>::infinity();  ///< max z
  double weight = 0;                                          ///< sum exp(z - largest)
  double moment = 0;                                          ///< sum (z - largest) exp(z - largest)
  std::int64_t most_probable = -1;                            ///< place of the largest: the first one of equals

  /// Those of the part of the vocabulary behind this one.
  void add(const ScoreSums& next);
  double log_sum_exp() const;  ///< ln sum exp z
  double entropy() const;      ///< -sum p ln p, nat, p = exp(z) / sum exp z
};

/// Of every row of scores [rows, tokens], whose first column is the token `first`; float64 sums, where the scores lie.
std::vector<ScoreSums> score_sums(const Tensor& scores, std::int64_t first);

/// The same of the scores z_b that the boundaries b of a model give to one prompt's last token, the last boundary L
/// beside each other one.
struct LensSums {
  std::vector<ScoreSums> sums;          ///< [boundaries]
  std::vector<double> differences;      ///< [boundaries]: sum exp(z_L - largest of z_L) (z_L - z_b)
  std::vector<double> num_more_likely;  ///< [boundaries]: tokens with z_b > z_b of the reference token

  void add(const LensSums& next);
  /// Of boundary b: sum p_L ln(p_L / p_b), nat; 0 or more but for rounding.
  double divergence(std::size_t boundary) const;
};

/// @param scores [boundaries, tokens], as in score_sums.
/// @param of_reference [boundaries] float64, where the scores lie: z_b of the token `reference`, which may lie in
/// another part; itself it never counts.
LensSums lens_sums(const Tensor& scores, std::int64_t first, std::int64_t reference, const Tensor& of_reference);

/// Bytes that either has beside its scores, of which there are so many.
inline constexpr std::int64_t next_token_bytes(std::int64_t num_scores) { return 4 * 8 * num_scores; }

}  // namespace spectrace
