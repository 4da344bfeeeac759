#include "../parts/llama_like.hpp"

namespace spectrace {

/// ERNIE 4.5, dense (Baidu 2025, ERNIE 4.5 Technical Report): Llama whose rotary pairs lie side by side; one switch for
/// all biases.
ModelDescription describe_ernie4_5(ConfigFields& fields, const TensorStore& store) {
  LlamaLike llama =
      read_llama_like(fields, {.num_kv_heads = 2, .head_dim = 128, .epsilon = 1e-5, .max_positions = 131072});
  RopeReading rope = read_rope(fields, {.default_theta = 500000.0}, llama.model.head_dim, llama.model.max_positions);
  rope.rotary.interleaved = true;
  set_attention(llama, rope);
  LlamaBiases biases;
  if (fields.flag("use_bias", false)) biases.qkv = biases.output = biases.mlp = Bias::yes;
  const bool tied = fields.tied(true);
  return with_llama_layers(std::move(llama), store, biases, tied);
}

FamilyClass class_of_ernie4_5() { return {"Ernie4_5ForCausalLM"}; }

}  // namespace spectrace
