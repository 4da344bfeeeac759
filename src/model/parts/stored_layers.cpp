#include "stored_layers.hpp"

#include <algorithm>
#include <optional>
#include <utility>

#include "llama_like.hpp"

namespace spectrace {
namespace {

constexpr const char* kOwnSize = "hidden_size and the sizes of the MLP's own matrices";

/// Sizes, and what all layers share.
struct StoredModel {
  ModelDescription model;
  Dim hidden;
  std::int64_t num_experts = 0;
  std::string experts_field;  ///< of config.json; empty: there is none
};

StoredModel read_sizes(ConfigFields& fields, const StoredNames& stored) {
  StoredModel read;
  ModelDescription& model = read.model;
  read.hidden = {fields.size({"hidden_size"}), "hidden_size"};
  model.hidden_size = read.hidden.size;
  model.vocab_size = fields.size({"vocab_size"});
  model.num_layers = fields.layers({"num_hidden_layers"});
  model.num_heads = fields.heads({"num_attention_heads"});
  const bool all_heads = stored.num_kv_heads == 0 || fields.is_null("num_key_value_heads");
  model.num_kv_heads = fields.size_or({"num_key_value_heads"}, all_heads ? model.num_heads : stored.num_kv_heads);
  fields.check_heads(model.num_heads, model.num_kv_heads, "num_key_value_heads");
  // The hub's name or transformers', which are not the same in every family.
  for (const char* name : {"num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"}) {
    const auto count = fields.find(name);
    if (!count || fields.is_null(name) || !read.experts_field.empty()) continue;
    constexpr std::int64_t kMost = 65536;
    read.num_experts = count->as_int();
    read.experts_field = name;
    if (read.num_experts < 0 || read.num_experts > kMost)
      throw count->error("is " + std::to_string(read.num_experts) + ", expected 0 to " + std::to_string(kMost));
  }
  return read;
}

PartSource whole(TensorSource source) {
  PartSource part;
  part.whole = std::move(source);
  return part;
}

/// Rows, or columns, of a matrix as it is stored; 0 where it is absent, or none.
std::int64_t stored_size(const SourceNames& names, const std::string& base, std::size_t dimension) {
  const auto shape = names.stored_shape(base + ".weight");
  return shape.size() == 2 ? shape[dimension] : 0;
}

bool has_mlp(const SourceNames& names, const StoredNames& stored, const std::string& base) {
  if (!stored.fused_gate_up.empty()) return names.has_any(base + stored.fused_gate_up);
  return names.has_any(base + stored.gate) || names.has_any(base + stored.up) || names.has_any(base + stored.down);
}

/// The MLP whose matrices have names of their own that begin with `base`. `usual_inner`: its size where none is there.
ExpertSources mlp_at(const SourceNames& names, const StoredNames& stored, const StoredModel& sizes,
                     const std::string& name, const std::string& base, std::int64_t usual_inner = 0) {
  ExpertSources expert;
  expert.name = name;
  if (!stored.fused_gate_up.empty()) {
    const Dim inner{stored_size(names, base + stored.fused_gate_up, 0) / 2, kOwnSize};
    const PartSource fused = whole(names.matrix(base + stored.fused_gate_up + ".weight", 2 * inner, sizes.hidden));
    expert.gate = expert.up = fused;
    expert.gate->rows = {0, inner.size};
    expert.up.rows = {inner.size, inner.size};
    expert.down = whole(names.matrix(base + stored.down + ".weight", sizes.hidden, inner));
    return expert;
  }
  const std::int64_t found =
      std::max({stored_size(names, base + stored.up, 0), stored_size(names, base + stored.gate, 0),
                stored_size(names, base + stored.down, 1)});
  const Dim inner{found > 0 ? found : usual_inner, kOwnSize};
  expert.gate = whole(names.matrix(base + stored.gate + ".weight", inner, sizes.hidden));
  expert.up = whole(names.matrix(base + stored.up + ".weight", inner, sizes.hidden));
  expert.down = whole(names.matrix(base + stored.down + ".weight", sizes.hidden, inner));
  return expert;
}

TensorSource stack(const SourceNames& names, const std::string& base, std::vector<std::int64_t> shape,
                   const std::string& num_experts) {
  TensorSource source;
  source.tensor = names.name(base);
  source.shape = std::move(shape);
  source.config_keys = num_experts + ", " + kOwnSize;
  return source;
}

/// Of experts that are stacked in two tensors; none if they are not.
std::vector<ExpertSources> find_stacked(const SourceNames& names, const StoredNames& stored, const StoredModel& sizes,
                                        const std::string& mlp) {
  std::vector<ExpertSources> experts;
  const auto shape = names.stored_shape(mlp + stored.stacked_gate_up);
  if (shape.empty() && !names.has_any(mlp + stored.stacked_down)) return experts;
  const std::int64_t hidden = sizes.hidden.size, count = sizes.num_experts;
  const bool in_rows = stored.stacks == ExpertStacks::rows;
  const std::int64_t inner = shape.size() == 3 ? shape[in_rows ? 1 : 2] / 2 : 0;
  PartSource gate =
      whole(in_rows ? stack(names, mlp + stored.stacked_gate_up, {count, 2 * inner, hidden}, sizes.experts_field)
                    : stack(names, mlp + stored.stacked_gate_up, {count, hidden, 2 * inner}, sizes.experts_field));
  PartSource up = gate;
  PartSource down =
      whole(in_rows ? stack(names, mlp + stored.stacked_down, {count, hidden, inner}, sizes.experts_field)
                    : stack(names, mlp + stored.stacked_down, {count, inner, hidden}, sizes.experts_field));
  switch (stored.stacks) {
    case ExpertStacks::rows:
      gate.rows = {0, inner};
      up.rows = {inner, inner};
      break;
    case ExpertStacks::columns:
      gate.columns = {0, inner};
      up.columns = {inner, inner};
      break;
    case ExpertStacks::taking_turns:
      gate.columns = {0, inner};
      up.columns = {1, inner};
      gate.column_step = up.column_step = 2;
      break;
  }
  for (std::int64_t i = 0; i < count; ++i) {
    gate.slice = up.slice = down.slice = i;
    experts.push_back({std::to_string(i), gate, up, down});
  }
  return experts;
}

std::vector<ExpertSources> find_mlps(const ConfigFields& fields, const SourceNames& names, const StoredNames& stored,
                                     const StoredModel& sizes, std::int64_t layer) {
  const std::string mlp = layer_base(layer) + stored.mlp, each = mlp + stored.experts;
  std::vector<ExpertSources> found;
  if (sizes.num_experts > 0) {
    // As the hub has them, or as transformers' modules hold them.
    StoredNames in_memory = stored;
    in_memory.stacked_gate_up = StoredNames().stacked_gate_up;
    in_memory.stacked_down = StoredNames().stacked_down;
    found = find_stacked(names, stored, sizes, mlp);
    if (found.empty()) found = find_stacked(names, in_memory, sizes, mlp);
    if (found.empty()) found = find_stacked(names, in_memory, sizes, layer_base(layer) + "mlp.");
    StoredNames of_expert = stored;
    of_expert.fused_gate_up.clear();
    if (found.empty() && names.has_any(each))
      for (std::int64_t i = 0; i < sizes.num_experts; ++i) {
        const std::int64_t inner = found.empty() ? 0 : found.front().up.num_rows();
        found.push_back(mlp_at(names, of_expert, sizes, std::to_string(i), each + std::to_string(i) + ".", inner));
      }
  }
  const bool has_routed = !found.empty();
  const std::string shared = layer_base(layer) + stored.shared;
  if (!stored.shared.empty() && has_mlp(names, stored, shared))
    found.push_back(mlp_at(names, stored, sizes, "shared", shared));
  if (!has_routed && has_mlp(names, stored, mlp)) found.push_back(mlp_at(names, stored, sizes, "dense", mlp));
  if (found.empty())
    throw fields.json().error("layer " + std::to_string(layer) +
                                  " has no MLP: no tensor has a name that begins with '" + names.name(mlp) +
                                  "' and is known",
                              "Is the checkpoint whole, and config.json its own?");
  return found;
}

/// Where each layer has the same one MLP, it is no expert.
void settle_mlps(ModelDescription& model) {
  const std::string name = model.layers.front().experts.front().name;
  const auto linear = [](const PartSource& part) {
    LinearSource source;
    source.weight = part.whole;
    if (part.rows) source.weight.rows = {*part.rows};
    return source;
  };
  for (const LayerSources& layer : model.layers)
    if (layer.experts.size() > 1 || layer.experts.front().name != name || layer.experts.front().up.slice) return;
  for (LayerSources& layer : model.layers) {
    const ExpertSources mlp = std::move(layer.experts.front());
    layer.experts.clear();
    if (mlp.gate) layer.mlp_gate = linear(*mlp.gate);
    layer.mlp_up = linear(mlp.up);
    layer.mlp_down = linear(mlp.down);
  }
  model.intermediate_size = model.layers.front().mlp_up.weight.canonical_shape()[0];
}

void set_embedding(ConfigFields& fields, const SourceNames& names, const StoredNames& stored, StoredModel& sizes) {
  const Dim vocab{sizes.model.vocab_size, "vocab_size"};
  EmbeddingSources& embedding = sizes.model.embedding;
  embedding.token = names.matrix("embed_tokens.weight", vocab, sizes.hidden);
  names.unembedding(embedding, {"lm_head.weight"}, fields.tied(stored.tied), vocab, sizes.hidden);
}

/// The queries of each head, where as many rows of its gate lie behind them.
std::vector<RowRange> rows_of_gated_queries(const ModelDescription& model) {
  std::vector<RowRange> rows;
  for (std::int64_t head = 0; head < model.num_heads; ++head)
    rows.push_back({2 * head * model.head_dim, model.head_dim});
  return rows;
}

}  // namespace

StoredNames mixtral_names() {
  return {.num_kv_heads = 8, .mlp = "block_sparse_moe.", .gate = "w1", .up = "w3", .down = "w2"};
}

StoredNames granite_moe_names() {
  return {.mlp = "block_sparse_moe.",
          .down = "output_linear",
          .fused_gate_up = "input_linear",
          .shared = "shared_mlp.",
          .stacked_gate_up = "input_linear.weight",
          .stacked_down = "output_linear.weight"};
}

StoredNames qwen3_next_names() {
  return {.num_kv_heads = 2, .head_dim = 256, .shared = "mlp.shared_expert.", .is_hybrid = true, .gated_queries = true};
}

StoredNames lfm2_names() {
  return {.num_kv_heads = 8,
          .tied = true,
          .mlp = "feed_forward.",
          .gate = "w1",
          .up = "w3",
          .down = "w2",
          .output = "out_proj",
          .is_hybrid = true};
}

ModelDescription describe_stored(ConfigFields& fields, const TensorStore& store, const StoredNames& stored) {
  StoredModel sizes = read_sizes(fields, stored);
  ModelDescription& model = sizes.model;
  const std::int64_t usual_head_dim = fields.is_null("head_dim") ? 0 : stored.head_dim;
  model.head_dim = fields.head_dim({"head_dim"}, usual_head_dim, model.hidden_size, model.num_heads);
  const Dim head{model.head_dim, "head_dim"};
  const Dim queries = Dim{model.num_heads, "num_attention_heads"} * head;
  const Dim keys = Dim{model.num_kv_heads, "num_key_value_heads"} * head;

  const SourceNames names = llama_names(store);
  bool any_attention = false;
  for (std::int64_t i = 0; i < model.num_layers; ++i) {
    LayerSources& layer = model.layers.emplace_back();
    const std::string attention = layer_base(i) + "self_attn.";
    if (!stored.is_hybrid || names.has_any(attention + "q_proj") || names.has_any(attention + "k_proj") ||
        names.has_any(attention + "v_proj")) {
      any_attention = true;
      layer.w_q =
          names.linear(attention + "q_proj", stored.gated_queries ? 2 * queries : queries, sizes.hidden, Bias::no);
      if (stored.gated_queries) layer.w_q.weight.rows = rows_of_gated_queries(model);
      layer.w_k = names.linear(attention + "k_proj", keys, sizes.hidden, Bias::no);
      layer.w_v = names.linear(attention + "v_proj", keys, sizes.hidden, Bias::no);
      layer.w_o = names.linear(attention + stored.output, sizes.hidden, queries, Bias::no);
    }
    layer.experts = find_mlps(fields, names, stored, sizes, i);
  }
  if (!any_attention)
    throw fields.json().error("no layer has attention", "no tensor's name has 'self_attn.q_proj' in it",
                              "Is the checkpoint whole, and config.json its own?");
  settle_mlps(model);
  set_embedding(fields, names, stored, sizes);
  return model;
}

ModelDescription describe_stored_latent(ConfigFields& fields, const TensorStore& store, const StoredNames& stored) {
  StoredModel sizes = read_sizes(fields, stored);
  ModelDescription& model = sizes.model;
  const Dim heads{model.num_heads, "num_attention_heads"}, latent{fields.size({"kv_lora_rank"}), "kv_lora_rank"};
  const Dim plain{fields.size({"qk_nope_head_dim"}), "qk_nope_head_dim"};
  const Dim turned{fields.size({"qk_rope_head_dim"}), "qk_rope_head_dim"};
  const Dim values{fields.size({"v_head_dim"}), "v_head_dim"};
  const bool has_query_latent = fields.find("q_lora_rank") && !fields.is_null("q_lora_rank");
  model.head_dim = plain.size + turned.size;

  const SourceNames names = llama_names(store);
  for (std::int64_t i = 0; i < model.num_layers; ++i) {
    LayerSources& layer = model.layers.emplace_back();
    const std::string attention = layer_base(i) + "self_attn.";
    LatentSources sources;
    const Dim queries = heads * (plain + turned);
    if (has_query_latent) {
      const Dim rank{fields.size({"q_lora_rank"}), "q_lora_rank"};
      sources.w_dq = names.linear(attention + "q_a_proj", rank, sizes.hidden, Bias::no);
      sources.w_uq = names.linear(attention + "q_b_proj", queries, rank, Bias::no);
    } else {
      layer.w_q = names.linear(attention + "q_proj", queries, sizes.hidden, Bias::no);
    }
    sources.w_dkv = sources.w_kr =
        names.linear(attention + "kv_a_proj_with_mqa", latent + turned, sizes.hidden, Bias::no);
    sources.w_dkv.weight.rows = {{0, latent.size}};
    sources.w_kr.weight.rows = {{latent.size, turned.size}};
    sources.w_uk = sources.w_uv = names.linear(attention + "kv_b_proj", heads * (plain + values), latent, Bias::no);
    for (std::int64_t head = 0; head < model.num_heads; ++head) {
      const std::int64_t first = head * (plain.size + values.size);
      sources.w_uk.weight.rows.push_back({first, plain.size});
      sources.w_uv.weight.rows.push_back({first + plain.size, values.size});
    }
    layer.latent = sources;
    layer.w_o = names.linear(attention + stored.output, sizes.hidden, heads * values, Bias::no);
    layer.experts = find_mlps(fields, names, stored, sizes, i);
  }
  settle_mlps(model);
  set_embedding(fields, names, stored, sizes);
  return model;
}

}  // namespace spectrace
