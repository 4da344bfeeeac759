#include "../parts/stored_layers.hpp"

namespace spectrace {

/// Qwen3-MoE (2025, arXiv:2505.09388): where its matrices lie.
ModelDescription describe_qwen3_moe(ConfigFields& fields, const TensorStore& store) {
  return describe_stored(fields, store, {.num_kv_heads = 4});
}

FamilyClass class_of_qwen3_moe() { return {"Qwen3MoeForCausalLM", {kMixtureOfExperts, ""}}; }

}  // namespace spectrace
