#include "../parts/stored_layers.hpp"

namespace spectrace {

/// Granite 3 MoE (IBM 2024): where its matrices lie.
ModelDescription describe_granitemoe(ConfigFields& fields, const TensorStore& store) {
  return describe_stored(fields, store, granite_moe_names());
}

FamilyClass class_of_granitemoe() { return {"GraniteMoeForCausalLM", {kMixtureOfExperts, ""}}; }

}  // namespace spectrace
