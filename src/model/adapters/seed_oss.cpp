#include "../parts/llama_like.hpp"

namespace spectrace {

/// Seed-OSS (ByteDance 2025, github.com/ByteDance-Seed/seed-oss): Llama with biases on q, k and v; that of the output
/// projection has a switch of its own.
ModelDescription describe_seed_oss(ConfigFields& fields, const TensorStore& store) {
  LlamaLike llama = read_llama_like(fields, {.num_kv_heads = 8, .head_dim = 128, .max_positions = 524288});
  set_attention(llama, read_rope(fields, {}, llama.model.head_dim, llama.model.max_positions));
  LlamaBiases biases;
  if (fields.flag("attention_bias", true)) biases.qkv = Bias::yes;
  if (fields.flag("attention_out_bias", false)) biases.output = Bias::yes;
  if (fields.flag("mlp_bias", false)) biases.mlp = Bias::yes;
  const bool tied = fields.tied(false);
  return with_llama_layers(std::move(llama), store, biases, tied);
}

FamilyClass class_of_seed_oss() { return {"SeedOssForCausalLM"}; }

}  // namespace spectrace
