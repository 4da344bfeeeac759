#include "../parts/stored_layers.hpp"

namespace spectrace {

/// MiniMax-M2 (2025): where its matrices lie.
ModelDescription describe_minimax_m2(ConfigFields& fields, const TensorStore& store) {
  StoredNames names = mixtral_names();
  names.head_dim = 128;
  return describe_stored(fields, store, names);
}

FamilyClass class_of_minimax_m2() { return {"MiniMaxM2ForCausalLM", {kMixtureOfExperts, ""}}; }

}  // namespace spectrace
