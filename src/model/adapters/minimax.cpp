#include "../parts/stored_layers.hpp"

namespace spectrace {

/// MiniMax-01 (2025, arXiv:2501.08313): where its matrices lie. Lightning attention, in most layers, has a matrix of
/// its own kind, which is none of these.
ModelDescription describe_minimax(ConfigFields& fields, const TensorStore& store) {
  StoredNames names = mixtral_names();
  names.is_hybrid = true;
  return describe_stored(fields, store, names);
}

FamilyClass class_of_minimax() { return {"MiniMaxForCausalLM", {kMixtureOfExperts, ""}}; }

}  // namespace spectrace
