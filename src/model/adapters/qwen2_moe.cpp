#include "../parts/stored_layers.hpp"

namespace spectrace {

/// Qwen1.5-MoE and Qwen2-MoE (Yang et al. 2024, arXiv:2407.10671): where their matrices lie.
ModelDescription describe_qwen2_moe(ConfigFields& fields, const TensorStore& store) {
  return describe_stored(fields, store, {.num_kv_heads = 16, .shared = "mlp.shared_expert."});
}

FamilyClass class_of_qwen2_moe() { return {"Qwen2MoeForCausalLM", {kMixtureOfExperts, ""}}; }

}  // namespace spectrace
