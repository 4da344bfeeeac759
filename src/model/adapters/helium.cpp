#include "../parts/llama_like.hpp"

namespace spectrace {

/// Helium 1 (Kyutai 2025): Llama whose rotary pairs lie side by side.
ModelDescription describe_helium(ConfigFields& fields, const TensorStore& store) {
  LlamaLike llama =
      read_llama_like(fields, {.num_kv_heads = 20, .head_dim = 128, .epsilon = 1e-8, .max_positions = 4096});
  RopeReading rope = read_rope(fields, {.default_theta = 100000.0}, llama.model.head_dim, llama.model.max_positions);
  rope.rotary.interleaved = true;
  set_attention(llama, rope);
  LlamaBiases biases;
  if (fields.flag("attention_bias", false)) biases.qkv = Bias::yes;  // the output projection has none
  if (fields.flag("mlp_bias", false)) biases.mlp = Bias::yes;
  const bool tied = fields.tied(false);
  return with_llama_layers(std::move(llama), store, biases, tied);
}

FamilyClass class_of_helium() { return {"HeliumForCausalLM"}; }

}  // namespace spectrace
