#include "../parts/stored_layers.hpp"

namespace spectrace {

/// DeepSeek-V2 (2024, arXiv:2405.04434): where its matrices lie.
ModelDescription describe_deepseek_v2(ConfigFields& fields, const TensorStore& store) {
  return describe_stored_latent(fields, store, {.shared = "mlp.shared_experts."});
}

FamilyClass class_of_deepseek_v2() { return {"DeepseekV2ForCausalLM", {kMixtureOfExperts, kNoHeads}}; }

}  // namespace spectrace
