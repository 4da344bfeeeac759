#include "../parts/llama_like.hpp"

namespace spectrace {

/// OLMo-2 (2025, arXiv:2501.00656): norms on the outputs of attention and MLP instead of their inputs, and on all
/// queries and all keys together.
ModelDescription describe_olmo2(ConfigFields& fields, const TensorStore& store) {
  LlamaLike llama = read_llama_like(fields, {.epsilon = 1e-5});
  set_attention(llama, read_rope(fields, {}, llama.model.head_dim, llama.model.max_positions));
  LlamaBiases biases;
  if (fields.flag("attention_bias", false)) biases.qkv = biases.output = Bias::yes;
  const bool tied = fields.tied(false);

  llama.model.norm_placement = "post";
  const SourceNames names = llama_names(store);
  for (std::int64_t i = 0; i < llama.model.num_layers; ++i) {
    const std::string base = "layers." + std::to_string(i) + ".";
    LayerSources layer = llama_layer(llama, names, i, biases);
    layer.attention_input_norm.reset();
    layer.mlp_input_norm.reset();
    layer.attention_output_norm = names.norm(base + "post_attention_layernorm", llama.hidden, Bias::no);
    layer.mlp_output_norm = names.norm(base + "post_feedforward_layernorm", llama.hidden, Bias::no);
    layer.query_norm = names.norm(base + "self_attn.q_norm", llama.queries, Bias::no);
    layer.key_norm = names.norm(base + "self_attn.k_norm", llama.keys, Bias::no);
    llama.model.layers.push_back(layer);
  }
  set_llama_embedding(llama, names, tied);
  return llama.model;
}

}  // namespace spectrace
