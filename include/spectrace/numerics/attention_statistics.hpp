#pragma once

#include <cstdint>
#include <vector>

#include "spectrace/numerics/tensor.hpp"

namespace spectrace {

/// Section 3 of docs/quantities.md, for one attention matrix after softmax.
struct AttentionStatistics {
  double row_entropy = 0;   ///< mean over rows i of -sum_j a_ij ln a_ij, nats
  double sparsity = 0;      ///< share of all n^2 entries, masked ones too, that are < 0.01
  double flat_entropy = 0;  ///< of entries > 1e-10 scaled to sum 1: -sum p ln p / ln(count); 0 if count < 2
};

/// @pre a is [n, n], float32 or float64, contiguous rows. Sums in float64. Non-finite entries give NaN.
AttentionStatistics attention_statistics(const Tensor& a);

/// Mean over the heads of one prompt in float64, which are added some at a time, in their order: the bits depend
/// neither on how many come together nor on libtorch (order of summation: docs/numerics.md, "Attention").
class MeanAttention {
 public:
  explicit MeanAttention(std::int64_t num_heads) : num_heads_(num_heads) {}

  /// The next heads. @pre a is [heads, n, n], float32 or float64, contiguous; on another device than the host, all
  /// heads.
  void add(const Tensor& a);
  /// [n, n] float64, where the heads lie. @pre all heads were added. Call once.
  Tensor finish();

 private:
  void add_to_sums(const Tensor& a);

  const std::int64_t num_heads_;
  std::int64_t num_added_ = 0;
  std::vector<Tensor> sums_;  // [n, n] float64 each, what was added last in the first one
  Tensor last_entries_;       // [num_heads, at most 15] float64: entries that are summed another way
};
/// Bytes that it holds of heads on the host.
std::int64_t mean_attention_bytes(std::int64_t num_heads, std::int64_t num_tokens);

/// The same of every head. @pre a is [heads, n, n]. On another device than the host the sums are float64 tensor
/// operations there, some heads at a time: the same numbers within the rounding of sums in another order.
std::vector<AttentionStatistics> attention_statistics_of_heads(const Tensor& a);
/// Bytes that this takes of another device than the host.
std::int64_t attention_statistics_device_bytes(std::int64_t num_heads, std::int64_t num_tokens);

}  // namespace spectrace
