#include "qwen_like.hpp"

namespace spectrace {

void set_qwen_windows(LlamaLike& llama, ConfigFields& fields, std::int64_t first_layer) {
  const bool used = fields.flag("use_sliding_window", false);
  const auto window = fields.window("sliding_window", 4096);
  const auto first = fields.find("max_window_layers");
  if (first) first_layer = first->as_int();
  auto sliding = fields.sliding_layers(llama.model.num_layers);
  if (!used || !window) return;
  if (!sliding) {
    sliding.emplace();
    for (std::int64_t i = 0; i < llama.model.num_layers; ++i) sliding->push_back(i >= first_layer);
  }
  set_sliding_window(llama, *window, sliding);
}

LlamaDefaults qwen2_defaults() {
  return {.hidden_size = 4096,
          .intermediate_size = 22016,
          .vocab_size = 151936,
          .num_layers = 32,
          .num_heads = 32,
          .num_kv_heads = 32,
          .max_positions = 32768};
}

ModelDescription describe_qwen2_like(ConfigFields& fields, const TensorStore& store, const LlamaDefaults& defaults,
                                     const RopeFields& rope, std::int64_t first_window_layer) {
  LlamaLike llama = read_llama_like(fields, defaults);
  set_attention(llama, read_rope(fields, rope, llama.model.head_dim, llama.model.max_positions));
  set_qwen_windows(llama, fields, first_window_layer);
  const bool tied = fields.tied(false);
  return with_llama_layers(std::move(llama), store, {.qkv = Bias::yes}, tied);
}

ModelDescription describe_qwen2_vl_like(ConfigFields& fields, const TensorStore& store) {
  return describe_qwen2_like(fields, store,
                             {.hidden_size = 8192,
                              .intermediate_size = 29568,
                              .vocab_size = 152064,
                              .num_layers = 80,
                              .num_heads = 64,
                              .num_kv_heads = 8,
                              .epsilon = 1e-5,
                              .max_positions = 32768},
                             {.default_theta = 1e6}, /*first_window_layer=*/80);
}

ModelDescription describe_qwen3_like(ConfigFields& fields, const TensorStore& store, LlamaLike llama) {
  const LlamaBiases biases = read_attention_biases(fields);
  const bool tied = fields.tied(false);

  const SourceNames names = llama_names(store);
  for (std::int64_t i = 0; i < llama.model.num_layers; ++i) {
    LayerSources layer = llama_layer(llama, names, i, biases);
    set_head_norms(layer, llama, names, layer_base(i) + "self_attn.q_norm", layer_base(i) + "self_attn.k_norm");
    llama.model.layers.push_back(layer);
  }
  set_llama_embedding(llama, names, tied);
  return llama.model;
}

}  // namespace spectrace
