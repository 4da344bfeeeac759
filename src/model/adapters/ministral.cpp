#include "../parts/llama_like.hpp"

namespace spectrace {

/// Ministral (Mistral AI 2024, mistral.ai/news/ministraux): Mistral whose layers differ, with a window or without.
ModelDescription describe_ministral(ConfigFields& fields, const TensorStore& store) {
  LlamaLike llama = read_llama_like(fields, {.num_kv_heads = 8, .max_positions = 131072});
  set_attention(llama, read_rope(fields, {}, llama.model.head_dim, llama.model.max_positions));
  const auto sliding = fields.sliding_layers(llama.model.num_layers);
  const auto window = fields.window("sliding_window", 4096);
  if (window) set_sliding_window(llama, *window, sliding);
  const bool tied = fields.tied(false);
  return with_llama_layers(std::move(llama), store, {}, tied);
}

FamilyClass class_of_ministral() { return {"MinistralForCausalLM"}; }

}  // namespace spectrace
