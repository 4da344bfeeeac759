#include "../parts/stored_layers.hpp"

namespace spectrace {

/// Granite MoE with a shared expert (IBM 2025): where its matrices lie.
ModelDescription describe_granitemoeshared(ConfigFields& fields, const TensorStore& store) {
  return describe_stored(fields, store, granite_moe_names());
}

FamilyClass class_of_granitemoeshared() { return {"GraniteMoeSharedForCausalLM", {kMixtureOfExperts, ""}}; }

}  // namespace spectrace
