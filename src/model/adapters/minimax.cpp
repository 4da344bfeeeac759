#include "../parts/stored_layers.hpp"

namespace spectrace {

/// MiniMax-01 (2025, arXiv:2501.08313): where its matrices lie. Lightning attention, in most layers, has a matrix of
/// its own kind, which is none of these.
ModelDescription describe_minimax(ConfigFields& fields, const TensorStore& store) {
  return describe_stored(
      fields, store,
      {.num_kv_heads = 8, .mlp = "block_sparse_moe.", .gate = "w1", .up = "w3", .down = "w2", .is_hybrid = true});
}

FamilyClass class_of_minimax() { return {"MiniMaxForCausalLM", {kMixtureOfExperts, ""}}; }

}  // namespace spectrace
