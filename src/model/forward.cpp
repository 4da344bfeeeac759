#include "spectrace/model/forward.hpp"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "block_ops.hpp"
#include "device_copies.hpp"
#include "row_writes.hpp"
#include "spectrace/core/parallel.hpp"
#include "spectrace/numerics/linear_map.hpp"
#include "weight_reader.hpp"

namespace spectrace {
namespace {

ComputeType compute_type(const Tensor& tensor) {
  return tensor.scalar_type() == at::kDouble ? ComputeType::float64 : ComputeType::float32;
}

/// What the block holds of one row beside the projections.
std::int64_t work_bytes_per_row(const ModelDescription& model, ComputeType type) {
  const Activation activation = model.block.activation;
  const bool two_inner =
      model.block.gated_mlp || activation == Activation::gelu_tanh_short || activation == Activation::gelu_sigmoid;
  const int num_inner = activation == Activation::xielu ? 5 : two_inner ? 2 : 1;
  return (4 * model.hidden_size + model.num_heads * model.head_dim + num_inner * model.intermediate_size) *
         element_size_bytes(type);
}

constexpr std::int64_t kLongAttentionEntries = std::int64_t{1} << 22;

Tensor normed(const NormSpec& spec, const std::optional<Norm>& norm, const Tensor& x) {
  return norm ? apply_norm(spec, *norm, x) : x;
}

/// q, k or v heads of the rows x.
void project(const Linear& linear, const std::optional<double>& clip, const Tensor& x, const Tensor& heads) {
  Tensor flat = heads.flatten(1);
  linear_map_into(x, linear.weight, linear.bias, flat);
  if (clip) flat.clamp_(-*clip, *clip);
}

/// In place. The norm runs over a head, or over all of them (OLMo-2), as its weight is long.
void norm_heads(const NormSpec& spec, const std::optional<Norm>& norm, const Tensor& heads) {
  if (!norm) return;
  const Tensor flat = heads.flatten(1);
  const bool over_all_heads = norm->weight && norm->weight->dim() == 1 && norm->weight->size(0) == flat.size(1);
  const Tensor& what = over_all_heads ? flat : heads;
  what.copy_(apply_norm(spec, *norm, what));
}

/// Runs the block's two halves around attention on some rows.
class BlockRows {
 public:
  BlockRows(const BlockSpec& spec, const AttentionSpec& attention, const LayerWeights& weights)
      : spec_(spec), attention_(attention), weights_(weights) {}

  /// Norm, q k v, their norms and positions: what attention needs of the rows x.
  void before_attention(const Tensor& x, const PositionTables& positions, std::int64_t first, Projections& out) const {
    const Tensor input = attention_input(x);
    const auto rows = [&](const Tensor& all) { return all.narrow(0, first, x.size(0)); };
    Tensor queries = rows(out.queries);
    const Tensor keys = rows(out.keys);
    project(weights_.w_q, attention_.clip_qkv, input, queries);
    project(weights_.w_k, attention_.clip_qkv, input, keys);
    project(weights_.w_v, attention_.clip_qkv, input, rows(out.values));
    if (!spec_.query_key_norm_after_rotary) norm_queries_and_keys(queries, keys);
    if (attention_.rotary) {
      apply_rotary(*attention_.rotary, positions, first, queries);
      apply_rotary(*attention_.rotary, positions, first, keys);
    }
    if (spec_.query_key_norm_after_rotary) norm_queries_and_keys(queries, keys);
    if (positions.query_growth.defined()) queries.mul_(rows(positions.query_growth));
  }

  /// Output projection, residual, MLP, residual: in place. `context` is attention's output for the rows x.
  void after_attention(Tensor x, const Tensor& context, const RowWrites& writes) const {
    const Tensor attended =
        normed(spec_.norm, weights_.attention_output_norm, apply_linear(weights_.w_o, context.flatten(1)));
    writes.see_attention(attended);
    if (spec_.parallel_residual)
      parallel(x, attended, writes);
    else if (spec_.norm_after_residual)
      post_norm(x, attended, writes);
    else
      pre_norm(x, attended, writes);
    writes.see_leaving(x);
  }

 private:
  void norm_queries_and_keys(const Tensor& queries, const Tensor& keys) const {
    norm_heads(spec_.norm, weights_.query_norm, queries);
    norm_heads(spec_.norm, weights_.key_norm, keys);
  }

  /// What a part of the block adds to the residual.
  void add(Tensor x, const Tensor& written) const { x.add_(written, spec_.residual_multiplier); }
  void add_mlp(const Tensor& x, const Tensor& written, const RowWrites& writes) const {
    writes.see_mlp(written);
    add(x, written);
  }

  Tensor attention_input(const Tensor& x) const {
    return spec_.norm_after_residual ? x : normed(spec_.norm, weights_.attention_input_norm, x);
  }

  void pre_norm(Tensor x, const Tensor& attended, const RowWrites& writes) const {
    if (spec_.residual_from_norm) x.copy_(attention_input(x));
    add(x, attended);
    const Tensor input = normed(spec_.norm, weights_.mlp_input_norm, x);
    if (spec_.residual_from_norm) x.copy_(input);
    add_mlp(x, normed(spec_.norm, weights_.mlp_output_norm, mlp(input)), writes);
  }

  void parallel(Tensor x, const Tensor& attended, const RowWrites& writes) const {
    const Tensor input =
        weights_.mlp_input_norm ? apply_norm(spec_.norm, *weights_.mlp_input_norm, x) : attention_input(x);
    add(x, attended);
    add_mlp(x, mlp(input), writes);
  }

  void post_norm(Tensor x, const Tensor& attended, const RowWrites& writes) const {
    add(x, attended);
    x.copy_(normed(spec_.norm, weights_.attention_input_norm, x));
    add_mlp(x, mlp(x), writes);
    x.copy_(normed(spec_.norm, weights_.mlp_input_norm, x));
  }

  Tensor mlp(const Tensor& x) const {
    Tensor inner = apply_linear(weights_.mlp_gate ? *weights_.mlp_gate : weights_.mlp_up, x);
    activate(spec_.activation, weights_.xielu, inner);
    if (weights_.mlp_gate) inner.mul_(apply_linear(weights_.mlp_up, x));
    return apply_linear(weights_.mlp_down, inner);
  }

  const BlockSpec& spec_;
  const AttentionSpec& attention_;
  const LayerWeights& weights_;
};

std::vector<std::int64_t> positions(const TokenBatch& batch) {
  std::vector<std::int64_t> rows;
  rows.reserve(batch.token_ids.size());
  for (std::size_t i = 0; i + 1 < batch.row_start.size(); ++i)
    for (std::int64_t p = 0; p < batch.row_start[i + 1] - batch.row_start[i]; ++p) rows.push_back(p);
  return rows;
}

/// Rows of SinusoidalPositions. [rows, hidden_size] float32, on the host
Tensor sinusoidal_rows(const SinusoidalPositions& sinusoidal, const std::vector<std::int64_t>& rows,
                       std::int64_t hidden_size) {
  const std::int64_t half = hidden_size / 2;
  const double step = std::log(10000.0) / static_cast<double>(half - 1);
  const Tensor frequencies = (at::arange(half, at::kLong).to(at::kFloat) * -step).exp();
  const Tensor row = at::tensor(rows, at::kLong).unsqueeze(1);
  const Tensor angles = row.to(at::kFloat) * frequencies;
  Tensor table = at::zeros({row.size(0), hidden_size}, at::kFloat);
  table.narrow(1, 0, half).copy_(angles.sin());
  table.narrow(1, half, half).copy_(angles.cos());
  if (sinusoidal.zero_row) table.masked_fill_(row == *sinusoidal.zero_row, 0);
  return table;
}

/// The tensor of a source that was checked against the checkpoint.
const TensorInfo& checked_info(const TensorStore& store, const TensorSource& source) {
  const TensorInfo* info = store.find(source.tensor);
  if (!info) throw InputError(ErrorKind::model, "tensor '" + source.tensor + "' is not in the checkpoint");
  return *info;
}

}  // namespace

Pieces pieces_on(const Device& device, const ModelDescription& model, ComputeType type) {
  // A matrix product of 4096 rows fills any GPU, and so do 256 MiB of attention.
  if (!device.is_host()) return {4096, std::int64_t{1} << 26, 1024, true, 1 << 22};
  // Rows: enough for the matrix product to run at full speed (512 win 3 % over 256 for GPT-2), few enough that what
  // every thread holds stays small and nothing of [all tokens, intermediate size] is ever there.
  constexpr std::int64_t kSmallBytes = 32 << 20;
  const std::int64_t rows = 512 * work_bytes_per_row(model, type) <= kSmallBytes ? 512 : 256;
  return {rows, kLongAttentionEntries, 256, false, 1 << 16};
}

void expect_tokens(const ModelDescription& model, const TensorStore& store, std::vector<std::int64_t> token_ids,
                   std::int64_t longest_prompt, ComputeType type) {
  const EmbeddingSources& sources = model.embedding;
  store.expect_rows(checked_info(store, sources.token), std::move(token_ids), type);
  if (!sources.position) return;
  std::vector<std::int64_t> rows(static_cast<std::size_t>(longest_prompt));
  std::iota(rows.begin(), rows.end(), sources.position_offset);
  store.expect_rows(checked_info(store, *sources.position), std::move(rows), type);
}

Embedded embed(const ModelDescription& model, const TensorStore& store, const TokenBatch& batch, ComputeType type,
               const Device& device) {
  const EmbeddingSources& sources = model.embedding;
  WeightReader reader(store, type);
  Embedded embedded;
  embedded.prompt_errors.resize(static_cast<std::size_t>(batch.num_prompts()));
  const auto look_up = [&](const TensorSource& source, const std::vector<std::int64_t>& rows) {
    std::map<std::int64_t, std::string> bad_rows;
    Tensor found = store.gather_rows(checked_info(store, source), rows, type, bad_rows);
    for (std::size_t prompt = 0; !bad_rows.empty() && prompt < embedded.prompt_errors.size(); ++prompt)
      for (std::int64_t token = batch.row_start[prompt]; token < batch.row_start[prompt + 1]; ++token) {
        const auto bad = bad_rows.find(rows[static_cast<std::size_t>(token)]);
        std::string& error = embedded.prompt_errors[prompt];
        if (bad != bad_rows.end() && error.empty()) error = bad->second;
      }
    return device.bring(found);
  };
  DeviceCopies copies(device, type);
  Tensor hidden = look_up(sources.token, batch.token_ids);
  if (sources.scale != 1.0) hidden.mul_(sources.scale);
  if (sources.project_in) hidden = apply_linear(copies.of(reader.read(*sources.project_in)), hidden);
  if (sources.position) {
    auto rows = positions(batch);
    for (auto& row : rows) row += sources.position_offset;
    hidden.add_(look_up(*sources.position, rows));
  }
  if (sources.sinusoidal) {
    auto rows = positions(batch);
    for (auto& row : rows) row += sources.sinusoidal->offset;
    const Tensor table = sinusoidal_rows(*sources.sinusoidal, rows, model.hidden_size);
    hidden.add_(device.bring(table.to(scalar_type(type))));
  }
  if (sources.norm) hidden = apply_norm(model.block.norm, copies.of(reader.read(*sources.norm)), hidden);
  embedded.hidden = std::move(hidden);
  return embedded;
}

void run_block(const ModelDescription& model, std::int64_t layer, const LayerWeights& weights,
               std::span<BlockBatch> batches) {
  const AttentionSpec& attention = model.attention.at(static_cast<std::size_t>(layer));
  const BlockRows block(model.block, attention, weights);
  struct Rows {
    std::size_t batch;
    std::int64_t first, count;
  };
  if (batches.empty()) return;
  const ComputeType type = compute_type(batches.front().hidden);
  const Device device = Device::of(batches.front().hidden);
  const Pieces cut = pieces_on(device, model, type);
  std::vector<BatchInBlock> running;
  std::vector<Rows> pieces;
  for (BlockBatch& batch : batches) {
    const std::int64_t num_tokens = batch.tokens->num_tokens();
    if (batch.writes != nullptr) *batch.writes = BlockWrites(static_cast<std::size_t>(num_tokens));
    const auto heads = [&](std::int64_t count) {
      return at::empty({num_tokens, count, model.head_dim}, batch.hidden.options());
    };
    running.push_back({&batch,
                       {heads(model.num_heads), heads(model.num_kv_heads), heads(model.num_kv_heads)},
                       make_position_tables(attention, *batch.tokens, type, device)});
    for (std::int64_t first = 0; first < num_tokens; first += cut.rows)
      pieces.push_back({running.size() - 1, first, std::min(cut.rows, num_tokens - first)});
  }
  using Part = std::function<void(BatchInBlock&, const Rows&)>;
  const auto for_pieces = [&](const Part& part) {
    const auto piece = [&](std::int64_t i) -> const Rows& { return pieces[static_cast<std::size_t>(i)]; };
    for_tasks_of_batches(
        device, static_cast<std::int64_t>(pieces.size()),
        [&](std::int64_t i) -> BlockBatch& { return *running[piece(i).batch].batch; },
        [&](std::int64_t i) { part(running[piece(i).batch], piece(i)); });
  };
  for_pieces([&](BatchInBlock& batch, const Rows& rows) {
    block.before_attention(batch.batch->hidden.narrow(0, rows.first, rows.count), batch.positions, rows.first,
                           batch.projections);
  });
  attend(attention, cut, running);
  for_pieces([&](BatchInBlock& batch, const Rows& rows) {
    const Tensor x = batch.batch->hidden.narrow(0, rows.first, rows.count);
    block.after_attention(x, batch.projections.queries.narrow(0, rows.first, rows.count),
                          RowWrites(batch.batch->writes, rows.first, x, model.block.residual_multiplier));
  });
}

void run_block(const ModelDescription& model, std::int64_t layer, const LayerWeights& weights, const TokenBatch& batch,
               Tensor& hidden, const AttentionObserver& observe) {
  BlockBatch one{.tokens = &batch, .hidden = hidden, .observe = observe};
  run_block(model, layer, weights, std::span(&one, 1));
  if (one.error) std::rethrow_exception(one.error);
}

std::int64_t tokens_together(const Device& device) {
  constexpr std::int64_t kRowsOfThread = 512, kMost = 4096;
  if (num_threads() == 1 || !device.is_host()) return 1;  // nothing to be won
  return std::min(kMost, kRowsOfThread * num_threads());
}

Tensor apply_final_norm(const ModelDescription& model, const TensorStore& store, const Tensor& hidden) {
  if (!model.embedding.final_norm) return hidden;
  const ComputeType type = compute_type(hidden);
  const Device device = Device::of(hidden);
  const Norm norm = DeviceCopies(device, type).of(WeightReader(store, type).read(*model.embedding.final_norm));
  Tensor result = at::empty_like(hidden);
  for_row_chunks(
      device, hidden.size(0), pieces_on(device, model, type).rows, [&](std::int64_t first, std::int64_t count) {
        result.narrow(0, first, count).copy_(apply_norm(model.block.norm, norm, hidden.narrow(0, first, count)));
      });
  return result;
}

std::string check_tokens(const ModelDescription& model, std::span<const std::int64_t> token_ids) {
  if (token_ids.empty()) return "the prompt has no tokens";
  for (std::size_t i = 0; i < token_ids.size(); ++i)
    if (token_ids[i] < 0 || token_ids[i] >= model.vocab_size)
      return "token id " + std::to_string(token_ids[i]) + " at position " + std::to_string(i) +
             " is not in the vocabulary of " + std::to_string(model.vocab_size) + " tokens";
  if (model.positions_are_limited && std::cmp_greater(token_ids.size(), model.max_positions))
    return "the prompt has " + std::to_string(token_ids.size()) + " tokens, more than the " +
           std::to_string(model.max_positions) + " of the model's position table";
  return {};
}

bool has_long_attention(const ModelDescription& model, std::int64_t num_prompt_tokens) {
  return model.num_heads * num_prompt_tokens * num_prompt_tokens >= kLongAttentionEntries;
}

std::int64_t long_attention_heads(std::int64_t num_heads, int num_threads) {
  // Each thread has several, or those that are done first would wait too often for the last one.
  constexpr std::int64_t kHeadsOfThread = 2;
  return std::min(num_heads, kHeadsOfThread * num_threads);
}

std::int64_t scores_workspace_bytes(const ModelDescription& model, std::int64_t longest_prompt, ComputeType type,
                                    const Device& device) {
  return scores_workspace_bytes(device, pieces_on(device, model, type), model.num_heads, longest_prompt,
                                element_size_bytes(type));
}

std::int64_t writes_workspace_bytes(const ModelDescription& model, std::int64_t num_tokens, ComputeType type,
                                    const Device& device) {
  constexpr std::int64_t kWide = 5;  // of the numbers that cosines are made of, in float64
  const std::int64_t rows =
      std::min(num_tokens, pieces_on(device, model, type).rows * (device.is_host() ? num_threads() : 1));
  return rows * model.hidden_size * (element_size_bytes(type) + kWide * 8);
}

std::int64_t block_workspace_bytes(const ModelDescription& model, std::int64_t num_tokens, std::int64_t longest_prompt,
                                   ComputeType type, bool is_observed, const Device& device) {
  const std::int64_t element = element_size_bytes(type);
  const Pieces cut = pieces_on(device, model, type);
  const std::int64_t queries = model.num_heads * model.head_dim, keys = model.num_kv_heads * model.head_dim;
  std::int64_t rotary_dim = 0;
  for (const AttentionSpec& attention : model.attention)
    if (attention.rotary) rotary_dim = std::max(rotary_dim, attention.rotary->rotary_dim);
  // Tables: two of half the rotary dimensions in the compute type, and the angles and one function of them in float32.
  const std::int64_t tables = num_tokens * rotary_dim * (element + 4);
  const std::int64_t projections = num_tokens * (queries + 2 * keys) * element;
  const std::int64_t chunks =
      std::min(num_tokens, cut.rows * (device.is_host() ? num_threads() : 1)) * work_bytes_per_row(model, type);
  return tables + projections +
         std::max(chunks,
                  attention_workspace_bytes(device, cut, model.num_heads, longest_prompt, element, is_observed));
}

}  // namespace spectrace
