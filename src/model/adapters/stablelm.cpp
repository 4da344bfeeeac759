#include "../parts/llama_like.hpp"

namespace spectrace {
namespace {

/// One norm vector a head, each a tensor of its own.
NormSource per_head_norm(const SourceNames& names, const std::string& base, const Dim& head, std::int64_t num_heads) {
  NormSource norm = names.norm(base + ".norms.0", head, Bias::no);
  for (std::int64_t h = 1; h < num_heads; ++h)
    norm.weight->stacked.push_back(names.name(base + ".norms." + std::to_string(h) + ".weight"));
  return norm;
}

}  // namespace

/// StableLM (2024, arXiv:2402.17834): Llama with LayerNorm, rotary on a quarter of each head; in some models biases on
/// q, k, v, a norm for each head's queries and keys, or a parallel residual on one norm.
ModelDescription describe_stablelm(ConfigFields& fields, const TensorStore& store) {
  LlamaLike llama = read_llama_like(fields, {.num_kv_heads = 32,
                                             .norm = NormKind::layer_norm,
                                             .epsilon_field = "layer_norm_eps",
                                             .epsilon = 1e-5,
                                             .max_positions = 4096});
  const RopeFields rope_fields{.partial = "partial_rotary_factor", .default_partial = 0.25};
  set_attention(llama, read_rope(fields, rope_fields, llama.model.head_dim, llama.model.max_positions));
  llama.model.block.parallel_residual = fields.flag("use_parallel_residual", false);
  const bool norm_per_head = fields.flag("qk_layernorm", false);
  LlamaBiases biases{.norm = Bias::yes};
  if (fields.flag("use_qkv_bias", false)) biases.qkv = Bias::yes;
  const bool tied = fields.tied(false);

  const SourceNames names = llama_names(store);
  const Dim head{llama.model.head_dim, "hidden_size, num_attention_heads"};
  for (std::int64_t i = 0; i < llama.model.num_layers; ++i) {
    const std::string base = "layers." + std::to_string(i) + ".self_attn.";
    LayerSources layer = llama_layer(llama, names, i, biases);
    if (llama.model.block.parallel_residual) layer.mlp_input_norm.reset();
    if (norm_per_head) {
      layer.query_norm = per_head_norm(names, base + "q_layernorm", head, llama.model.num_heads);
      layer.key_norm = per_head_norm(names, base + "k_layernorm", head, llama.model.num_kv_heads);
    }
    llama.model.layers.push_back(layer);
  }
  set_llama_embedding(llama, names, tied, Bias::yes);
  return llama.model;
}

FamilyClass class_of_stablelm() { return {"StableLmForCausalLM"}; }

}  // namespace spectrace
