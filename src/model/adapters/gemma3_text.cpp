#include "../parts/gemma_like.hpp"

namespace spectrace {
namespace {

/// Rotary settings of the layers that see everything, and of those with a window: each has its own theta.
struct Gemma3Ropes {
  RopeReading full, sliding;
};

Gemma3Ropes read_ropes(ConfigFields& fields, std::int64_t head_dim, std::int64_t max_positions) {
  const auto scaling = fields.find("rope_scaling"), parameters = fields.find("rope_parameters");
  auto full = parameters ? parameters->find("full_attention") : std::nullopt;
  const auto sliding = parameters ? parameters->find("sliding_attention") : std::nullopt;
  if (parameters) parameters->expect_only_keys({"full_attention", "sliding_attention"});
  double full_theta = fields.scale("rope_theta", 1e6);
  const double sliding_theta = fields.scale("rope_local_base_freq", 1e4);
  if (scaling && scaling->size() > 0) {  // the old style scales the layers without a window alone
    if (full) full_theta = as_scale_or(*full, "rope_theta", full_theta);
    full = scaling;
  }
  return {read_rope_settings(fields, full, full_theta, 1.0, 0, head_dim, max_positions),
          read_rope_settings(fields, sliding, sliding_theta, 1.0, 0, head_dim, max_positions)};
}

std::vector<bool> default_sliding_layers(std::int64_t num_layers, std::int64_t pattern) {
  std::vector<bool> sliding;
  for (std::int64_t i = 0; i < num_layers; ++i) sliding.push_back((i + 1) % pattern != 0);
  return sliding;
}

}  // namespace

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
  const Gemma3Ropes ropes = read_ropes(fields, llama.model.head_dim, llama.model.max_positions);
  set_attention(llama, ropes.full);
  for (const auto& [name, value] : ropes.sliding.facts) llama.model.rope_facts.emplace_back("sliding_" + name, value);
  // transformers keeps the field but gives the cap to no layer.
  fields.refuse_if_set("attn_logit_softcapping", "Gemma-3 has no cap on its scores");
  set_gemma2_scores(llama, fields, std::nullopt, std::nullopt);
  const std::int64_t pattern = fields.count_or({"sliding_window_pattern"}, 6);
  const auto sliding =
      fields.sliding_layers(llama.model.num_layers).value_or(default_sliding_layers(llama.model.num_layers, pattern));
  const auto window = fields.window("sliding_window", 4096);
  if (window) set_sliding_window(llama, *window, sliding);
  for (std::size_t i = 0; i < sliding.size(); ++i)
    if (sliding[i]) llama.model.attention[i].rotary = ropes.sliding.rotary;
  LlamaBiases biases;
  if (fields.flag("attention_bias", false)) biases.qkv = biases.output = Bias::yes;
  const bool tied = fields.tied(true);

  llama.model.norm_placement = "pre+post";
  const SourceNames names = llama_names(store);
  const Dim head{llama.model.head_dim, "head_dim"};
  for (std::int64_t i = 0; i < llama.model.num_layers; ++i) {
    LayerSources layer = gemma2_layer(llama, names, i, biases);
    layer.query_norm = names.norm("layers." + std::to_string(i) + ".self_attn.q_norm", head, Bias::no);
    layer.key_norm = names.norm("layers." + std::to_string(i) + ".self_attn.k_norm", head, Bias::no);
    llama.model.layers.push_back(layer);
  }
  set_llama_embedding(llama, names, tied);
  llama.model.embedding.scale = gemma_embedding_scale(llama.model.hidden_size);
  return llama.model;
}

}  // namespace spectrace
