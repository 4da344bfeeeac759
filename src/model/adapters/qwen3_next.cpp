#include "../parts/stored_layers.hpp"

namespace spectrace {

/// Qwen3-Next (2025): where its matrices lie. Gated DeltaNet, in most layers, is no attention.
ModelDescription describe_qwen3_next(ConfigFields& fields, const TensorStore& store) {
  return describe_stored(fields, store, qwen3_next_names());
}

FamilyClass class_of_qwen3_next() { return {"Qwen3NextForCausalLM", {kMixtureOfExperts, ""}}; }

}  // namespace spectrace
