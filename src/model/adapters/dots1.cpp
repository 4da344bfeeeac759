#include "../parts/stored_layers.hpp"

namespace spectrace {

/// dots.llm1 (2025, arXiv:2506.05767): where its matrices lie.
ModelDescription describe_dots1(ConfigFields& fields, const TensorStore& store) {
  return describe_stored(fields, store, {.shared = "mlp.shared_experts."});
}

FamilyClass class_of_dots1() { return {"Dots1ForCausalLM", {kMixtureOfExperts, ""}}; }

}  // namespace spectrace
