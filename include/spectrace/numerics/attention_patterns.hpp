#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "spectrace/numerics/tensor.hpp"

namespace spectrace {

/// Which tokens of a prompt came before.
class EarlierTokens {
 public:
  explicit EarlierTokens(std::span<const std::int64_t> token_ids);

  std::int64_t num_tokens() const { return static_cast<std::int64_t>(last_.size()); }
  /// The last place before `place` that has the same token; -1 if there is none.
  std::int64_t last_before(std::int64_t place) const { return last_[static_cast<std::size_t>(place)]; }

 private:
  std::vector<std::int64_t> last_;
};

/// Where a head looks: means over rows i, NaN over none (docs/quantities.md, section 3).
struct AttentionPattern {
  // Over the rows i >= 1:
  double first_token_mass = 0;     ///< a_i0
  double self_mass = 0;            ///< a_ii
  double previous_token_mass = 0;  ///< a_i,i-1
  double mean_distance = 0;        ///< sum_j a_ij (i - j)
  /// Over the rows whose token came before: sum of a_ij over the j < i with the same token.
  double duplicate_token_score = 0;
  /// Over the rows whose token came at some j <= i - 2: sum of a_i,j+1 over these j.
  double induction_score = 0;
};

/// Of every head. @pre a is [heads, n, n], float32 or float64, causal (zero for j > i), n >= 1 the prompt's tokens.
/// Sums in float64, in an order that n alone decides. Done by the host; attention on another device is brought over,
/// some heads at a time, at least as many as there are threads.
std::vector<AttentionPattern> attention_patterns(const Tensor& a, const EarlierTokens& tokens);
/// Bytes that it takes of the host where it brings heads over, of float64.
std::int64_t attention_patterns_bytes(std::int64_t num_heads, std::int64_t num_tokens);

/// How large the scores of a head are before the softmax, over all rows.
struct ScoreSummary {
  double max_logit = 0;         ///< the largest
  double mean_log_sum_exp = 0;  ///< mean over rows of the log of the sum of exponentials
};
/// @pre row_max and row_log_sum_exp are [heads, n], on any device, n >= 1.
std::vector<ScoreSummary> score_summaries(const Tensor& row_max, const Tensor& row_log_sum_exp);

}  // namespace spectrace
