#include "../parts/stored_layers.hpp"

namespace spectrace {

/// Mixtral (Jiang et al. 2024, arXiv:2401.04088): where its matrices lie.
ModelDescription describe_mixtral(ConfigFields& fields, const TensorStore& store) {
  return describe_stored(fields, store, mixtral_names());
}

FamilyClass class_of_mixtral() { return {"MixtralForCausalLM", {kMixtureOfExperts, ""}}; }

}  // namespace spectrace
