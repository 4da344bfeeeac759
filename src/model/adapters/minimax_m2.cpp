#include "../parts/stored_layers.hpp"

namespace spectrace {

/// MiniMax-M2 (2025): where its matrices lie.
ModelDescription describe_minimax_m2(ConfigFields& fields, const TensorStore& store) {
  return describe_stored(
      fields, store,
      {.num_kv_heads = 8, .head_dim = 128, .mlp = "block_sparse_moe.", .gate = "w1", .up = "w3", .down = "w2"});
}

FamilyClass class_of_minimax_m2() { return {"MiniMaxM2ForCausalLM", {kMixtureOfExperts, ""}}; }

}  // namespace spectrace
