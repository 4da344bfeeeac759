#pragma once

#include <cstdint>
#include <exception>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "spectrace/model/layer_weights.hpp"

namespace spectrace {

/// Prompts that go through the model together: their tokens lie one after the other, nothing is padded.
struct TokenBatch {
  std::vector<std::int64_t> token_ids;  // [num_tokens]
  std::vector<std::int64_t> row_start;  // [num_prompts + 1]: prompt p is rows [row_start[p], row_start[p + 1])

  std::int64_t num_prompts() const { return static_cast<std::int64_t>(row_start.size()) - 1; }
  std::int64_t num_tokens() const { return static_cast<std::int64_t>(token_ids.size()); }
  RowRange rows_of(std::int64_t prompt) const {
    const auto place = static_cast<std::size_t>(prompt);
    return {row_start[place], row_start[place + 1] - row_start[place]};
  }
};

/// What the softmax of some heads is made of: of every row of the scores as they enter it (scaled, capped, with ALiBi),
/// masked ones aside.
struct RowScores {
  Tensor max;          // [heads, n] in the compute type: the largest
  Tensor log_sum_exp;  // [heads, n] float64: the log of the sum of exponentials
};

/// Sees the attention of one prompt in one layer: a is [heads, n, n] after softmax, in the compute type, of the heads
/// from `first_head` on, and what it is made of, if the batch wants it. All heads come in one call; those of a long
/// prompt (has_long_attention) on the host in several, one after the other in the order of heads, and how many depends
/// on the threads. On the host, different short prompts come at once, from tasks of parallel_for; on another device one
/// after the other, and all tensors lie there. They are only valid during the call.
using AttentionObserver =
    std::function<void(std::int64_t prompt, std::int64_t first_head, const Tensor& a, const RowScores& scores)>;

/// What enters block 0.
struct Embedded {
  Tensor hidden;  // [num_tokens, hidden_size]
  /// Of each prompt, why it cannot run: a row of an embedding that it uses is not finite. Empty if it can.
  std::vector<std::string> prompt_errors;  // [num_prompts]
};

/// Says which rows of the embedding's tables the prompts to come need, so that these are read once for look-ups, digest
/// and, where it is the same matrix, the unembedding.
void expect_tokens(const ModelDescription& model, const TensorStore& store, std::vector<std::int64_t> token_ids,
                   std::int64_t longest_prompt, ComputeType type);

/// @pre every token id is in the table and every prompt fits (check_tokens).
/// @throws InputError (model, io) if the embedding cannot be read.
Embedded embed(const ModelDescription& model, const TensorStore& store, const TokenBatch& batch, ComputeType type,
               const Device& device = Device::cpu());

/// What a block does to the rows of a batch (docs/quantities.md, section 5), [num_tokens] each: norms of what attention
/// and MLP add to the residual, and cosines with the row that enters the block; of what leaves it too. A cosine is NaN
/// where one of both is 0.
struct BlockWrites {
  BlockWrites() = default;
  explicit BlockWrites(std::size_t num_tokens)
      : attention_norm(num_tokens),
        attention_cosine(num_tokens),
        mlp_norm(num_tokens),
        mlp_cosine(num_tokens),
        leaving_cosine(num_tokens) {}

  std::vector<double> attention_norm, attention_cosine, mlp_norm, mlp_cosine, leaving_cosine;
};

/// One of the batches that go through a block at the same time.
struct BlockBatch {
  const TokenBatch* tokens = nullptr;
  Tensor hidden = {};  ///< [num_tokens, hidden_size]: what enters the block, and then what leaves it, in place
  AttentionObserver observe = {};
  bool wants_scores = false;      ///< `observe` gets them
  BlockWrites* writes = nullptr;  ///< takes them, if somebody wants to know
  std::exception_ptr error = {};  ///< what the batch failed of; the others go on
};

/// Runs block `layer` over the batches: threads share out the rows and prompts of all of them, or the device works on
/// one after the other. The bits depend on each batch, the weights and the kind of device alone, never on threads or on
/// what goes together. @pre weights and all hidden states lie on one device and have one type.
void run_block(const ModelDescription& model, std::int64_t layer, const LayerWeights& weights,
               std::span<BlockBatch> batches);

/// The same of one batch. @throws what it failed of.
void run_block(const ModelDescription& model, std::int64_t layer, const LayerWeights& weights, const TokenBatch& batch,
               Tensor& hidden, const AttentionObserver& observe);

/// The final norm (where the model has one, else the input). [num_tokens, hidden_size]
Tensor apply_final_norm(const ModelDescription& model, const TensorStore& store, const Tensor& hidden);

/// Batches of up to so many tokens in all go through a block together: enough rows for every thread. One that has more
/// goes alone.
std::int64_t tokens_together(const Device& device = Device::cpu());

/// Why the model cannot run these ids ("" if it can): empty prompt, id out of range, longer than the position table.
std::string check_tokens(const ModelDescription& model, std::span<const std::int64_t> token_ids);

/// Whether a prompt of so many tokens has the threads for itself in attention; shorter ones go side by side, one a
/// thread.
bool has_long_attention(const ModelDescription& model, std::int64_t num_prompt_tokens);

/// Heads of a long prompt whose attention is in memory at a time on the host, if somebody looks.
std::int64_t long_attention_heads(std::int64_t num_heads, int num_threads);

/// Peak bytes of run_block besides weights and `hidden`, for planning. @param is_observed whether somebody sees the
/// attention.
std::int64_t block_workspace_bytes(const ModelDescription& model, std::int64_t num_tokens, std::int64_t longest_prompt,
                                   ComputeType type, bool is_observed, const Device& device = Device::cpu());
/// What comes to that where somebody wants to know what the block writes.
std::int64_t writes_workspace_bytes(const ModelDescription& model, std::int64_t num_tokens, ComputeType type,
                                    const Device& device = Device::cpu());
/// What comes to that where the observer gets the scores.
std::int64_t scores_workspace_bytes(const ModelDescription& model, std::int64_t longest_prompt, ComputeType type,
                                    const Device& device = Device::cpu());

}  // namespace spectrace
