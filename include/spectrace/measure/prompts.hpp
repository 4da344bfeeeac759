#pragma once

#include <optional>
#include <span>
#include <vector>

#include "spectrace/measure/record.hpp"
#include "spectrace/measure/weight_spectra.hpp"
#include "spectrace/model/forward.hpp"
#include "spectrace/numerics/attention_statistics.hpp"

namespace spectrace {

/// What is measured of prompts.
struct PromptAnalyses {
  bool attention = true, sheaf = true, residual = true;
  bool graph_eigenvalues = false;  ///< keep mu of every head (large)
  std::vector<double> beta;        ///< of the partition function
};

/// Takes down sections 3 to 5 of docs/quantities.md for the prompts of one batch while they go through the model.
/// Arrays are named as the datasets of /prompts/<set>, prompt first: [prompt, layer, head], [prompt, boundary], …
/// free_energy is left out: it is -log_partition / beta.
class PromptMeasurement {
 public:
  PromptMeasurement(const ModelDescription& model, const TokenBatch& batch, PromptAnalyses analyses);

  bool needs_attention() const { return analyses_.attention || analyses_.sheaf; }
  bool needs_value_spectra() const { return analyses_.sheaf; }

  /// Boundary b of the residual stream. @pre hidden is [num_tokens, hidden_size].
  void see_boundary(std::int64_t boundary, const Tensor& hidden);
  void see_final_norm(const Tensor& normed);
  /// Attention of one prompt in one layer, [heads, n, n], of the heads from `first_head` on: all of them, or some at a
  /// time, in their order (AttentionObserver). Different prompts may come at the same time.
  void see_attention(std::int64_t layer, std::int64_t prompt, std::int64_t first_head, const Tensor& a,
                     const std::vector<ValueSpectrum>& values);

  /// What a prompt failed of: whoever runs it may say so, and the measurement does when hidden states, attention or a
  /// spectrum are not finite. The first reason stays; a prompt that failed is not looked at again.
  void fail(std::int64_t prompt, std::string why);

  /// What was found so far, and going on from it: for a stop in the middle of the layers.
  Record so_far() const;
  /// @pre a record that so_far() of a measurement of the same batch and analyses gave.
  void go_on_from(const Record& so_far);

  /// What was found, gains included; NaN for a prompt that failed, whose reason stands in the text "prompt_errors" (one
  /// of each prompt, absent if none failed). Call once, after the last block.
  Record finish();

 private:
  Array& array(const char* name) { return record_.arrays.at(name); }
  /// Everything of the array under the indices of its first dimensions.
  std::span<double> slots(const char* name, std::initializer_list<std::int64_t> index);
  /// @pre index has all dimensions.
  void set(const char* name, std::initializer_list<std::int64_t> index, double value);
  bool has_failed(std::int64_t prompt) const { return !errors_[static_cast<std::size_t>(prompt)].empty(); }
  /// Fails prompts with a norm that is not finite.
  void expect_finite(const std::vector<double>& row_norms, const std::string& what);
  void expect_finite_spectra();
  void keep_errors(Record& record) const;
  /// What the heads of one prompt in one layer come to together, while they come.
  struct OverHeads {
    MeanAttention mean;
    double trace = 0, off_diagonal_sum = 0;
  };
  void see_statistics(std::int64_t layer, std::int64_t prompt, std::int64_t first_head, const Tensor& a);
  void see_sheaf(std::int64_t layer, std::int64_t prompt, std::int64_t first_head, const Tensor& a,
                 const std::vector<ValueSpectrum>& values, OverHeads& over_heads);
  /// When all heads have come.
  void see_over_heads(std::int64_t layer, std::int64_t prompt, const std::vector<ValueSpectrum>& values,
                      OverHeads& over_heads);

  const ModelDescription& model_;
  const TokenBatch& batch_;
  PromptAnalyses analyses_;
  Record record_;
  std::vector<std::string> errors_;                   // of each prompt, empty if it has not failed
  std::vector<std::optional<OverHeads>> over_heads_;  // of each prompt, between two calls for its heads
};

/// Peak bytes of see_attention for prompts of n tokens, over all threads, for planning.
std::int64_t measurement_workspace_bytes(const ModelDescription& model, std::int64_t num_prompt_tokens, bool attention,
                                         bool sheaf);

}  // namespace spectrace
