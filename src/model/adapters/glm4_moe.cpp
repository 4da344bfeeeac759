#include "../parts/stored_layers.hpp"

namespace spectrace {

/// GLM-4.5 (2025, arXiv:2508.06471): where its matrices lie.
ModelDescription describe_glm4_moe(ConfigFields& fields, const TensorStore& store) {
  return describe_stored(fields, store, {.num_kv_heads = 8, .shared = "mlp.shared_experts."});
}

FamilyClass class_of_glm4_moe() { return {"Glm4MoeForCausalLM", {kMixtureOfExperts, ""}}; }

}  // namespace spectrace
