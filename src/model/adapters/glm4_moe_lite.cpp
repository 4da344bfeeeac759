#include "../parts/stored_layers.hpp"

namespace spectrace {

/// GLM-4.7-Flash (2026): where its matrices lie.
ModelDescription describe_glm4_moe_lite(ConfigFields& fields, const TensorStore& store) {
  return describe_stored_latent(fields, store, {.shared = "mlp.shared_experts."});
}

FamilyClass class_of_glm4_moe_lite() { return {"Glm4MoeLiteForCausalLM", {kMixtureOfExperts, kNoHeads}}; }

}  // namespace spectrace
