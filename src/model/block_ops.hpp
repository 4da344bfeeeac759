#pragma once

#include <functional>
#include <optional>
#include <span>

#include "spectrace/model/forward.hpp"
#include "spectrace/numerics/device.hpp"

namespace spectrace {

/// How work is cut. The host's threads share out many small pieces; on another device one piece must fill all of it.
/// Follows from the model and the kind of device alone, so the bits do not depend on threads.
struct Pieces {
  std::int64_t rows;  ///< of a chunk
  /// Prompts whose attention has at least so many entries run one after the other, each by heads and blocks of rows;
  /// shorter ones run whole, side by side on the host's threads.
  std::int64_t long_attention_entries;
  std::int64_t attention_rows;  ///< of such a block
  /// All in one product; else those of a group that shares its keys, and of a long prompt one at a time.
  bool all_heads;
  std::int64_t widened_scores;  ///< that are there in float64 at a time, if a row has no more
};
Pieces pieces_on(const Device& device, const ModelDescription& model, ComputeType type);

/// Calls part(first, count) for pieces of at most `most` rows, as the device's tasks.
void for_row_chunks(const Device& device, std::int64_t num_rows, std::int64_t most,
                    const std::function<void(std::int64_t first, std::int64_t count)>& part);

/// @pre x is [rows, in]. Returns [rows, out].
Tensor apply_linear(const Linear& by, const Tensor& x);

/// LayerNorm (Ba et al. 2016, arXiv:1607.06450) or RMSNorm (Zhang & Sennrich 2019, arXiv:1910.07467) over the last
/// dimension; weights broadcast from the right.
Tensor apply_norm(const NormSpec& spec, const Norm& norm, const Tensor& x);

/// In place. @param xielu the layer's, with Activation::xielu.
void activate(Activation activation, const std::optional<Xielu>& xielu, Tensor& x);

/// What attention makes of positions, for every row of a batch.
struct PositionTables {
  Tensor cos, sin;      ///< of position times frequency: [num_tokens, 1, rotary_dim / 2]; undefined without rotary
  Tensor query_growth;  ///< [num_tokens, 1, 1]; undefined where it is 1 everywhere
};
PositionTables make_position_tables(const AttentionSpec& spec, const TokenBatch& batch, ComputeType type,
                                    const Device& device);

/// Turns the leading rotary_dim dimensions of every head, in place (Su et al. 2021, arXiv:2104.09864).
/// @pre heads is [rows, num_heads, head_dim]; tables hold the same rows.
void apply_rotary(const RotarySpec& rotary, const PositionTables& tables, std::int64_t first_row, Tensor heads);

/// Queries, keys and values of a batch, after norms and rotary. Attention leaves its output in `queries`.
struct Projections {
  Tensor queries;  // [num_tokens, num_heads, head_dim]
  Tensor keys;     // [num_tokens, num_kv_heads, head_dim]
  Tensor values;   // [num_tokens, num_kv_heads, head_dim]
};

/// A batch in the middle of a block.
struct BatchInBlock {
  BlockBatch* batch;
  Projections projections;
  PositionTables positions;
};

/// Does task(i, batch_of(i)) for i < num_tasks as the device's tasks, those of batches that have failed left out. What
/// a task throws becomes its batch's error, the first task's where several do.
void for_tasks_of_batches(const Device& device, std::int64_t num_tasks,
                          const std::function<BlockBatch&(std::int64_t)>& batch_of,
                          const std::function<void(std::int64_t)>& task);

/// softmax(scale q k^T + mask) v for every prompt; the result takes the place of the queries.
void attend(const AttentionSpec& spec, const Pieces& pieces, std::span<BatchInBlock> batches);
/// Peak bytes of attend besides the projections. @param is_observed whether somebody looks.
std::int64_t attention_workspace_bytes(const Device& device, const Pieces& pieces, std::int64_t num_heads,
                                       std::int64_t num_prompt_tokens, std::int64_t element_bytes, bool is_observed);
/// And where somebody wants the scores too.
std::int64_t scores_workspace_bytes(const Device& device, const Pieces& pieces, std::int64_t num_heads,
                                    std::int64_t num_prompt_tokens, std::int64_t element_bytes);

}  // namespace spectrace
