#include "../parts/llama_like.hpp"

namespace spectrace {

/// StarCoder2 (Lozhkov et al. 2024, arXiv:2402.19173): Llama with LayerNorm, biases, an MLP without a gate, and in some
/// models a sliding window.
ModelDescription describe_starcoder2(ConfigFields& fields, const TensorStore& store) {
  LlamaLike llama = read_llama_like(fields, {.num_kv_heads = 2,
                                             .activation = "gelu_pytorch_tanh",
                                             .norm = NormKind::layer_norm,
                                             .epsilon_field = "norm_epsilon",
                                             .epsilon = 1e-5,
                                             .max_positions = 4096,
                                             .gated_mlp = false});
  set_attention(llama, read_rope(fields, {}, llama.model.head_dim, llama.model.max_positions));
  const auto window = fields.window("sliding_window", std::nullopt);
  if (window) set_sliding_window(llama, *window, std::nullopt);
  const Bias bias = fields.flag("use_bias", true) ? Bias::yes : Bias::no;
  const bool tied = fields.tied(true);

  const SourceNames names = llama_names(store);
  for (std::int64_t i = 0; i < llama.model.num_layers; ++i) {
    const std::string base = "layers." + std::to_string(i) + ".mlp.";
    LayerSources layer = llama_layer(llama, names, i, {.qkv = bias, .output = bias, .norm = Bias::yes});
    layer.mlp_up = names.linear(base + "c_fc", llama.inner, llama.hidden, bias);
    layer.mlp_down = names.linear(base + "c_proj", llama.hidden, llama.inner, bias);
    llama.model.layers.push_back(layer);
  }
  set_llama_embedding(llama, names, tied, Bias::yes);
  return llama.model;
}

FamilyClass class_of_starcoder2() { return {"Starcoder2ForCausalLM"}; }

}  // namespace spectrace
