#include "../parts/llama_like.hpp"

namespace spectrace {

namespace {

/// From sliding_window_pattern: a number n means all but the n-th, the 2n-th, …; a text of L and G is repeated over the
/// layers, of which the last one has no window.
std::vector<bool> read_pattern(ConfigFields& fields, std::int64_t num_layers) {
  const auto node = fields.find("sliding_window_pattern");
  if (!node && fields.is_null("sliding_window_pattern"))
    throw fields.json().error("sliding_window_pattern is null", "then sliding_window must be null too");
  if (!node || !node->is_string()) return sliding_but_every(fields.count_or({"sliding_window_pattern"}, 4), num_layers);
  const std::string& pattern = node->as_string();
  if (pattern.empty() || pattern.find_first_not_of("LG") != std::string::npos)
    throw node->error("is '" + pattern + "'", "expected letters L and G");
  std::vector<bool> sliding;
  for (std::int64_t i = 0; i < num_layers; ++i)
    sliding.push_back(pattern[static_cast<std::size_t>(i) % pattern.size()] == 'L' && i + 1 < num_layers);
  return sliding;
}

}  // namespace

/// EXAONE 4.0 (LG AI Research 2025, arXiv:2507.11407): norms on the outputs of attention and MLP, and on each head's
/// query and key; where there are windows, the layers without one do not turn.
ModelDescription describe_exaone4(ConfigFields& fields, const TensorStore& store) {
  LlamaLike llama = read_llama_like(fields, {.num_kv_heads = 32, .epsilon = 1e-5});
  const std::int64_t num_layers = llama.model.num_layers;
  set_attention(llama, read_rope(fields, {}, llama.model.head_dim, llama.model.max_positions));
  const auto window = fields.window("sliding_window", 4096);
  auto sliding = fields.sliding_layers(num_layers);
  if (window) {
    if (!sliding) sliding = read_pattern(fields, num_layers);
    set_sliding_window(llama, *window, sliding);
    for (AttentionSpec& attention : llama.model.attention)
      if (!attention.sliding_window) attention.rotary.reset();
  }
  const bool tied = fields.tied(false);

  llama.model.norm_placement = "post";
  const SourceNames names = llama_names(store);
  for (std::int64_t i = 0; i < num_layers; ++i) {
    LayerSources layer = output_norms_layer(llama, names, i, {});
    set_head_norms(layer, llama, names, layer_base(i) + "self_attn.q_norm", layer_base(i) + "self_attn.k_norm");
    llama.model.layers.push_back(layer);
  }
  set_llama_embedding(llama, names, tied);
  return llama.model;
}

FamilyClass class_of_exaone4() { return {"Exaone4ForCausalLM"}; }

}  // namespace spectrace
