#include "../parts/llama_like.hpp"

namespace spectrace {

/// Mistral (Jiang et al. 2023, arXiv:2310.06825): Llama with a sliding window in every layer, where the config has one.
ModelDescription describe_mistral(ConfigFields& fields, const TensorStore& store) {
  LlamaLike llama = read_llama_like(fields, {.hidden_size = 4096,
                                             .intermediate_size = 14336,
                                             .vocab_size = 32000,
                                             .num_layers = 32,
                                             .num_heads = 32,
                                             .num_kv_heads = 8,
                                             .max_positions = 131072});
  set_attention(llama, read_rope(fields, {}, llama.model.head_dim, llama.model.max_positions));
  const auto window = fields.window("sliding_window", 4096);
  if (window) set_sliding_window(llama, *window, std::nullopt);
  fields.refuse_if_set("layer_types", "kinds of layers belong to the family Ministral");
  const bool tied = fields.tied(false);
  return with_llama_layers(std::move(llama), store, {}, tied);
}

FamilyClass class_of_mistral() { return {"MistralForCausalLM"}; }

}  // namespace spectrace
