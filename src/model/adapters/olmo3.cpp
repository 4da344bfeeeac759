#include "../parts/layer_ropes.hpp"
#include "../parts/olmo_like.hpp"

namespace spectrace {

/// OLMo 3 (2025, arXiv:2512.13961): OLMo-2 with a window in three layers of four; the rotary scaling is that of the
/// others alone.
ModelDescription describe_olmo3(ConfigFields& fields, const TensorStore& store) {
  LlamaLike llama = read_llama_like(fields, {.epsilon = 1e-5});
  const std::int64_t num_layers = llama.model.num_layers;
  const auto sliding = fields.sliding_layers(num_layers).value_or(sliding_but_every(4, num_layers));
  // One theta for all, as the model was trained. transformers 5.23 takes the old style's rope_theta for the layers
  // without a window, and then has 500000 for the others, which is every published model's.
  const double theta = fields.scale("rope_theta", 500000.0);
  set_attention(llama, read_layer_ropes(fields, theta, theta, llama), sliding);
  const auto window = fields.window("sliding_window", 4096);
  if (window) set_sliding_window(llama, *window, sliding);
  const LlamaBiases biases = read_attention_biases(fields);
  const bool tied = fields.tied(false);

  llama.model.norm_placement = "post";
  const SourceNames names = llama_names(store);
  for (std::int64_t i = 0; i < num_layers; ++i) llama.model.layers.push_back(olmo2_layer(llama, names, i, biases));
  set_llama_embedding(llama, names, tied);
  return llama.model;
}

FamilyClass class_of_olmo3() { return {"Olmo3ForCausalLM"}; }

}  // namespace spectrace
