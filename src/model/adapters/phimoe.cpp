#include "../parts/stored_layers.hpp"

namespace spectrace {

/// Phi-3.5-MoE (Abdin et al. 2024, arXiv:2404.14219): where its matrices lie.
ModelDescription describe_phimoe(ConfigFields& fields, const TensorStore& store) {
  return describe_stored(fields, store, mixtral_names());
}

FamilyClass class_of_phimoe() { return {"PhimoeForCausalLM", {kMixtureOfExperts, ""}}; }

}  // namespace spectrace
