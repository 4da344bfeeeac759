#include "cohere_like.hpp"

namespace spectrace {

LlamaLike read_cohere_like(ConfigFields& fields, double default_theta) {
  LlamaLike llama = read_llama_like(fields, {.hidden_size = 8192,
                                             .intermediate_size = 22528,
                                             .vocab_size = 256000,
                                             .num_layers = 40,
                                             .num_heads = 64,
                                             .norm = NormKind::layer_norm,
                                             .epsilon_field = "layer_norm_eps",
                                             .epsilon = 1e-5,
                                             .max_positions = 8192});
  ModelDescription& model = llama.model;
  model.block.parallel_residual = true;
  RopeReading rope = read_rope(fields, {.default_theta = default_theta}, model.head_dim, model.max_positions);
  rope.rotary.interleaved = true;
  set_attention(llama, rope);
  model.embedding.logits.scale = fields.scale("logit_scale", 0.0625);
  return llama;
}

LayerSources cohere_layer(const LlamaLike& llama, const SourceNames& names, std::int64_t layer, Bias attention) {
  LayerSources sources = llama_layer(llama, names, layer, {.qkv = attention, .output = attention});
  sources.mlp_input_norm.reset();
  return sources;
}

}  // namespace spectrace
