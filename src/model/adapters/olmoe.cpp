#include "../parts/stored_layers.hpp"

namespace spectrace {

/// OLMoE (Muennighoff et al. 2024, arXiv:2409.02060): where its matrices lie.
ModelDescription describe_olmoe(ConfigFields& fields, const TensorStore& store) {
  return describe_stored(fields, store, {});
}

FamilyClass class_of_olmoe() { return {"OlmoeForCausalLM", {kMixtureOfExperts, ""}}; }

}  // namespace spectrace
