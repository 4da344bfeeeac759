#include "../parts/gemma_like.hpp"
#include "../parts/layer_ropes.hpp"

namespace spectrace {

/// Gemma-3, text only (2025, arXiv:2503.19786): Gemma-2 without soft caps, with norms on queries and keys, five layers
/// with a window for each without, and a rotary theta of its own for either kind.
ModelDescription describe_gemma3_text(ConfigFields& fields, const TensorStore& store) {
  LlamaLike llama = read_llama_like(fields, {.hidden_size = 2304,
                                             .intermediate_size = 9216,
                                             .vocab_size = 262208,
                                             .num_layers = 26,
                                             .num_heads = 8,
                                             .num_kv_heads = 4,
                                             .head_dim = 256,
                                             .activation_field = "hidden_activation",
                                             .activation = "gelu_pytorch_tanh",
                                             .norm_weight_offset = 1.0,
                                             .max_positions = 131072});
  const double full_theta = fields.scale("rope_theta", 1e6), sliding_theta = fields.scale("rope_local_base_freq", 1e4);
  const LayerRopes ropes = read_layer_ropes(fields, full_theta, sliding_theta, llama);
  // transformers keeps the field but gives the cap to no layer.
  fields.refuse_if_set("attn_logit_softcapping", "Gemma-3 has no cap on its scores");
  const std::int64_t pattern = fields.count_or({"sliding_window_pattern"}, 6);
  const std::int64_t num_layers = llama.model.num_layers;
  const auto sliding = fields.sliding_layers(num_layers).value_or(sliding_but_every(pattern, num_layers));
  set_attention(llama, ropes, sliding);
  set_gemma2_scores(llama, fields, std::nullopt, std::nullopt);
  const auto window = fields.window("sliding_window", 4096);
  if (window) set_sliding_window(llama, *window, sliding);
  const LlamaBiases biases = read_attention_biases(fields);
  const bool tied = fields.tied(true);

  llama.model.norm_placement = "pre+post";
  const SourceNames names = llama_names(store);
  for (std::int64_t i = 0; i < llama.model.num_layers; ++i) {
    LayerSources layer = gemma2_layer(llama, names, i, biases);
    const std::string attention = layer_base(i) + "self_attn.";
    set_head_norms(layer, llama, names, attention + "q_norm", attention + "k_norm");
    llama.model.layers.push_back(layer);
  }
  set_llama_embedding(llama, names, tied);
  llama.model.embedding.scale = gemma_embedding_scale(llama.model.hidden_size);
  return llama.model;
}

FamilyClass class_of_gemma3_text() { return {"Gemma3ForCausalLM"}; }

}  // namespace spectrace
