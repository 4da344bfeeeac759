#include "../parts/stored_layers.hpp"

namespace spectrace {

/// Mixtral (Jiang et al. 2024, arXiv:2401.04088): where its matrices lie.
ModelDescription describe_mixtral(ConfigFields& fields, const TensorStore& store) {
  return describe_stored(fields, store,
                         {.num_kv_heads = 8, .mlp = "block_sparse_moe.", .gate = "w1", .up = "w3", .down = "w2"});
}

FamilyClass class_of_mixtral() { return {"MixtralForCausalLM", {kMixtureOfExperts, ""}}; }

}  // namespace spectrace
