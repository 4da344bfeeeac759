#pragma once

#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "spectrace/measure/choice.hpp"
#include "spectrace/measure/record.hpp"
#include "spectrace/numerics/attention_statistics.hpp"

namespace spectrace {

/// Takes down what the chosen analyses of prompts want to know of one batch while it goes through the model, and which
/// of its prompts fail. Arrays are named as the datasets of /prompts/<set>, prompt first: [prompt, layer, head],
/// [prompt, boundary], … (docs/quantities.md, section 5).
class PromptMeasurement final : private PromptArrays {
 public:
  /// @pre model and batch outlive it.
  PromptMeasurement(const ModelDescription& model, const TokenBatch& batch, AnalysisChoice analyses);

  const PromptWants& wants() const { return wants_; }

  /// Boundary b of the residual stream. @pre hidden is [num_tokens, hidden_size].
  void see_boundary(std::int64_t boundary, const Tensor& hidden);
  /// Before block `layer`, wherever the batch comes from: boundary `layer` once more.
  void see_entering(std::int64_t layer, const Tensor& hidden);
  void see_writes(std::int64_t layer, const BlockWrites& writes);
  void see_final_norm(const Tensor& normed);
  void see_predictions(const Predictions& predictions);
  /// Attention of one prompt in one layer, [heads, n, n], of the heads from `first_head` on: all of them, or some at a
  /// time, in their order (AttentionObserver). Different prompts may come at the same time.
  /// @pre what is wanted of value spectra and scores is there.
  void see_attention(std::int64_t layer, std::int64_t prompt, std::int64_t first_head, const Tensor& a,
                     const std::vector<ValueSpectrum>& values, const RowScores& scores = {});

  /// What a prompt failed of: whoever runs it may say so, and the measurement does when hidden states, attention or a
  /// spectrum are not finite. The first reason stays; a prompt that failed is not looked at again.
  void fail(std::int64_t prompt, std::string why);

  /// Of each prompt's last token, before the final norm, where the hidden states lie: [num_prompts, num_layers + 1,
  /// hidden_size]. @pre predictions are wanted, and the boundaries were seen.
  const Tensor& last_tokens() const { return last_tokens_; }

  /// What was found so far, and going on from it: for a stop in the middle of the layers.
  Record so_far() const;
  /// @pre a record that so_far() of a measurement of the same batch and analyses gave.
  void go_on_from(const Record& so_far, ComputeType type, const Device& device);

  /// What was found; NaN for a prompt that failed, whose reason stands in the text kPromptErrors (one of each prompt,
  /// absent if none failed). Call once, after the last block.
  Record finish();

 private:
  /// Declared, and not asked for.
  bool is_left_out(const char* quantity) const;
  std::span<double> slots(const char* quantity, std::initializer_list<std::int64_t> index) override;
  void set(const char* quantity, std::initializer_list<std::int64_t> index, double value) override;

  bool has_failed(std::int64_t prompt) const { return !errors_[static_cast<std::size_t>(prompt)].empty(); }
  /// Fails prompts with a norm that is not finite.
  void expect_finite(const std::vector<double>& row_norms, const std::string& what);
  void expect_finite_values();
  void expect_finite(const Quantity& quantity, const Array& array);
  void keep_errors(Record& record) const;
  Tensor last_rows(const Tensor& hidden) const;

  const ModelDescription& model_;
  const TokenBatch& batch_;
  const AnalysisChoice analyses_;
  const PromptWants wants_;
  Record record_;
  std::vector<std::string> errors_;  // of each prompt, empty if it has not failed
  std::vector<std::unique_ptr<PromptObserver>> observers_;
  std::vector<std::optional<MeanAttention>> means_;  // of each prompt, while its heads come
  std::vector<GraphSpectra> graphs_;                 // the same
  Tensor last_tokens_;
};

/// The text of a record that says which prompts of the batch failed, and why.
inline constexpr const char* kPromptErrors = "prompt_errors";

/// In the record of a batch under way whose tokens are to be predicted: last_tokens().
inline constexpr const char* kLastTokens = "last_tokens";

/// Values that such a record has for a prompt of a batch whose longest has so many tokens.
std::int64_t num_values_of_prompt(const ModelDescription& model, const AnalysisChoice& analyses, std::int64_t longest);

/// Peak bytes of the host for seeing prompts of n tokens, over all threads, for planning, where the forward pass runs
/// on `device`.
std::int64_t measurement_workspace_bytes(const ModelDescription& model, const AnalysisChoice& analyses,
                                         std::int64_t num_prompt_tokens, const Device& device = Device::cpu());
/// The same of that device, if it is not the host.
std::int64_t measurement_device_bytes(const ModelDescription& model, const AnalysisChoice& analyses,
                                      std::int64_t num_prompt_tokens);
/// The most that seeing the attention of a long prompt takes of the host at once, whoever sees it, at least.
std::int64_t least_measurement_bytes(const ModelDescription& model, const AnalysisChoice& analyses,
                                     std::int64_t num_prompt_tokens);
/// Flops of all analyses for a prompt in one layer, beyond the forward pass.
double measurement_flops(const ModelDescription& model, const AnalysisChoice& analyses, std::int64_t num_tokens);

}  // namespace spectrace
