#include "../parts/llama_like.hpp"

namespace spectrace {

/// Persimmon (Adept 2023): q k v fused per head, norms of each head's queries and keys, squared ReLU, rotary on a share
/// of each head.
ModelDescription describe_persimmon(ConfigFields& fields, const TensorStore& store) {
  LlamaLike llama = read_llama_like(fields, {.activation = "relu2",
                                             .norm = NormKind::layer_norm,
                                             .epsilon_field = "layer_norm_eps",
                                             .epsilon = 1e-5,
                                             .max_positions = 16384,
                                             .gated_mlp = false});
  ModelDescription& model = llama.model;
  if (model.num_kv_heads != model.num_heads || model.num_heads * model.head_dim != model.hidden_size)
    throw fields.json().error(
        "num_key_value_heads or head_dim is not what Persimmon has",
        "it has as many key/value heads as heads, of hidden_size / num_attention_heads dimensions");
  model.fused_qkv_per_head = true;
  const RopeFields rope_fields{.partial = "partial_rotary_factor", .default_partial = 0.5};
  set_attention(llama, read_rope(fields, rope_fields, model.head_dim, model.max_positions));
  const bool norm_of_heads = fields.flag("qk_layernorm", true);
  const bool tied = fields.tied(false);

  const SourceNames names = llama_names(store);
  const FusedRows rows = fused_per_group(model.num_heads, model.num_heads, model.head_dim);
  const Dim head{model.head_dim, "hidden_size, num_attention_heads"};
  for (std::int64_t i = 0; i < model.num_layers; ++i) {
    const std::string base = "layers." + std::to_string(i) + ".";
    LayerSources layer = llama_layer(llama, names, i, {.norm = Bias::yes});
    names.fused_qkv(layer, base + "self_attn.query_key_value", 3 * llama.hidden, llama.hidden, Bias::yes, rows);
    layer.w_o = names.linear(base + "self_attn.dense", llama.hidden, llama.hidden, Bias::yes);
    if (norm_of_heads) {
      layer.query_norm = names.norm(base + "self_attn.q_layernorm", head, Bias::yes);
      layer.key_norm = names.norm(base + "self_attn.k_layernorm", head, Bias::yes);
    }
    layer.mlp_up = names.linear(base + "mlp.dense_h_to_4h", llama.inner, llama.hidden, Bias::yes);
    layer.mlp_down = names.linear(base + "mlp.dense_4h_to_h", llama.hidden, llama.inner, Bias::yes);
    model.layers.push_back(layer);
  }
  set_llama_embedding(llama, names, tied);
  model.embedding.final_norm = names.norm("final_layernorm", llama.hidden, Bias::yes);
  return llama.model;
}

FamilyClass class_of_persimmon() { return {"PersimmonForCausalLM"}; }

}  // namespace spectrace
