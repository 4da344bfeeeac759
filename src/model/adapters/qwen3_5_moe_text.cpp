#include "../parts/stored_layers.hpp"

namespace spectrace {

/// Qwen3.5-MoE (2026): where its matrices lie. Gated DeltaNet, in most layers, is no attention.
ModelDescription describe_qwen3_5_moe_text(ConfigFields& fields, const TensorStore& store) {
  return describe_stored(fields, store, qwen3_next_names());
}

FamilyClass class_of_qwen3_5_moe_text() { return {"Qwen3_5MoeForCausalLM", {kMixtureOfExperts, ""}}; }

}  // namespace spectrace
