#include "../parts/stored_layers.hpp"

namespace spectrace {

/// FlexOlmo (Shi et al. 2025, arXiv:2507.07024): where its matrices lie.
ModelDescription describe_flex_olmo(ConfigFields& fields, const TensorStore& store) {
  return describe_stored(fields, store, {});
}

FamilyClass class_of_flex_olmo() { return {"FlexOlmoForCausalLM", {kMixtureOfExperts, ""}}; }

}  // namespace spectrace
