#include "../parts/stored_layers.hpp"

namespace spectrace {

/// Granite 4 (IBM 2025): where its matrices lie, also of models without experts. Mamba 2, in most layers, is no
/// attention.
ModelDescription describe_granitemoehybrid(ConfigFields& fields, const TensorStore& store) {
  StoredNames names = granite_moe_names();
  names.is_hybrid = true;
  return describe_stored(fields, store, names);
}

FamilyClass class_of_granitemoehybrid() { return {"GraniteMoeHybridForCausalLM", {kMixtureOfExperts, ""}}; }

}  // namespace spectrace
