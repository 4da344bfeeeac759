#include "../parts/stored_layers.hpp"

namespace spectrace {

/// DeepSeek-V3 and R1 (2024, arXiv:2412.19437): where their matrices lie.
ModelDescription describe_deepseek_v3(ConfigFields& fields, const TensorStore& store) {
  return describe_stored_latent(fields, store, {.shared = "mlp.shared_experts."});
}

FamilyClass class_of_deepseek_v3() { return {"DeepseekV3ForCausalLM", {kMixtureOfExperts, kNoHeads}}; }

}  // namespace spectrace
