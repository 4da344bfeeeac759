#include "glm_like.hpp"

namespace spectrace {

LlamaLike describe_glm_like(ConfigFields& fields, const TensorStore& store) {
  LlamaLike llama =
      read_llama_like(fields, {.num_kv_heads = 2, .head_dim = 128, .epsilon = 1.5625e-7, .max_positions = 131072});
  ModelDescription& model = llama.model;
  const RopeFields rope_fields{.partial = "partial_rotary_factor", .default_partial = 0.5};
  RopeReading rope = read_rope(fields, rope_fields, model.head_dim, model.max_positions);
  rope.rotary.interleaved = true;
  set_attention(llama, rope);
  const Bias bias = fields.flag("attention_bias", true) ? Bias::yes : Bias::no;
  const bool tied = fields.tied(false);

  const SourceNames names = llama_names(store);
  for (std::int64_t i = 0; i < model.num_layers; ++i) {
    LayerSources layer = llama_layer(llama, names, i, {.qkv = bias});
    set_fused_gate_up(llama, names, layer, "layers." + std::to_string(i) + ".mlp.gate_up_proj");
    model.layers.push_back(layer);
  }
  set_llama_embedding(llama, names, tied);
  return llama;
}

}  // namespace spectrace
