#include "../parts/stored_layers.hpp"

namespace spectrace {

/// Jamba (Lieber et al. 2024, arXiv:2403.19887): where its matrices lie. Mamba, in most layers, is no attention.
ModelDescription describe_jamba(ConfigFields& fields, const TensorStore& store) {
  return describe_stored(fields, store, {.num_kv_heads = 8, .mlp = "feed_forward.", .is_hybrid = true});
}

FamilyClass class_of_jamba() { return {"JambaForCausalLM", {kMixtureOfExperts, ""}}; }

}  // namespace spectrace
