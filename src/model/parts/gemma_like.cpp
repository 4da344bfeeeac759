#include "gemma_like.hpp"

#include <cmath>

namespace spectrace {

double gemma_embedding_scale(std::int64_t hidden_size) {
  return static_cast<double>(static_cast<float>(std::sqrt(static_cast<double>(hidden_size))));
}

LayerSources gemma2_layer(const LlamaLike& llama, const SourceNames& names, std::int64_t layer,
                          const LlamaBiases& biases) {
  const std::string base = layer_base(layer);
  LayerSources sources = llama_layer(llama, names, layer, biases);
  sources.attention_output_norm = names.norm(base + "post_attention_layernorm", llama.hidden, Bias::no);
  sources.mlp_input_norm = names.norm(base + "pre_feedforward_layernorm", llama.hidden, Bias::no);
  sources.mlp_output_norm = names.norm(base + "post_feedforward_layernorm", llama.hidden, Bias::no);
  return sources;
}

Gemma2Like read_gemma2_like(ConfigFields& fields) {
  Gemma2Like gemma;
  LlamaLike& llama = gemma.llama;
  llama = read_llama_like(fields, {.num_kv_heads = 4,
                                   .head_dim = 256,
                                   .activation_field = "hidden_activation",
                                   .activation = "gelu_pytorch_tanh",
                                   .norm_weight_offset = 1.0,
                                   .max_positions = 8192});
  fields.find("hidden_act");  // the same word twice in the hub's files; hidden_activation is the one that counts
  set_attention(llama, read_rope(fields, {}, llama.model.head_dim, llama.model.max_positions));
  set_gemma2_scores(llama, fields, 50.0, 30.0);
  const std::int64_t num_layers = llama.model.num_layers;
  const auto sliding = fields.sliding_layers(num_layers).value_or(sliding_but_every(2, num_layers));
  const auto window = fields.window("sliding_window", 4096);
  if (window) set_sliding_window(llama, *window, sliding);
  if (fields.flag("attention_bias", false)) gemma.biases.qkv = gemma.biases.output = Bias::yes;
  gemma.tied = fields.tied(true);
  return gemma;
}

void set_gemma2_embedding(Gemma2Like& gemma, const SourceNames& names) {
  set_llama_embedding(gemma.llama, names, gemma.tied);
  gemma.llama.model.embedding.scale = gemma_embedding_scale(gemma.llama.model.hidden_size);
}

void set_gemma2_scores(LlamaLike& llama, ConfigFields& fields, std::optional<double> default_softcap,
                       std::optional<double> default_logit_softcap) {
  const double scalar = fields.scale("query_pre_attn_scalar", 256.0);
  const auto softcap = fields.optional_scale("attn_logit_softcapping", default_softcap);
  for (AttentionSpec& attention : llama.model.attention) {
    attention.score_scale = 1.0 / std::sqrt(scalar);
    attention.score_softcap = softcap;
  }
  llama.model.embedding.logits.softcap = fields.optional_scale("final_logit_softcapping", default_logit_softcap);
  fields.refuse_if_set("use_bidirectional_attention", "only causal attention is supported");
}

}  // namespace spectrace
