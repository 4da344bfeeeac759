#include "../parts/llama_like.hpp"

namespace spectrace {

/// Phi-1, 1.5 and 2 (Gunasekar et al. 2023, arXiv:2306.11644): parallel residual on one norm, biases everywhere, in the
/// unembedding too, an MLP without a gate, rotary on a share of each head.
ModelDescription describe_phi(ConfigFields& fields, const TensorStore& store) {
  LlamaLike llama = read_llama_like(fields, {.activation = "gelu_new",
                                             .norm = NormKind::layer_norm,
                                             .epsilon_field = "layer_norm_eps",
                                             .epsilon = 1e-5,
                                             .gated_mlp = false});
  ModelDescription& model = llama.model;
  model.block.parallel_residual = true;
  const RopeFields rope_fields{.partial = "partial_rotary_factor", .default_partial = 0.5};
  set_attention(llama, read_rope(fields, rope_fields, model.head_dim, model.max_positions));
  const bool norm_of_heads = fields.flag("qk_layernorm", false);
  const bool tied = fields.tied(false);

  const SourceNames names = llama_names(store);
  const Dim head{model.head_dim, "hidden_size, num_attention_heads"};
  for (std::int64_t i = 0; i < model.num_layers; ++i) {
    const std::string base = "layers." + std::to_string(i) + ".";
    LayerSources layer = llama_layer(llama, names, i, {.qkv = Bias::yes, .norm = Bias::yes});
    layer.w_o = names.linear(base + "self_attn.dense", llama.hidden, llama.queries, Bias::yes);
    layer.mlp_input_norm.reset();
    if (norm_of_heads) {
      layer.query_norm = names.norm(base + "self_attn.q_layernorm", head, Bias::yes);
      layer.key_norm = names.norm(base + "self_attn.k_layernorm", head, Bias::yes);
    }
    layer.mlp_up = names.linear(base + "mlp.fc1", llama.inner, llama.hidden, Bias::yes);
    layer.mlp_down = names.linear(base + "mlp.fc2", llama.hidden, llama.inner, Bias::yes);
    model.layers.push_back(layer);
  }
  set_llama_embedding(llama, names, tied);
  model.embedding.final_norm = names.norm("final_layernorm", llama.hidden, Bias::yes);
  names.unembedding_bias(model.embedding, llama.vocab);
  return llama.model;
}

FamilyClass class_of_phi() { return {"PhiForCausalLM"}; }

}  // namespace spectrace
