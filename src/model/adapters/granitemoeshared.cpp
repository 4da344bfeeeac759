#include "../parts/stored_layers.hpp"

namespace spectrace {

/// Granite MoE with a shared expert (IBM 2025): where its matrices lie.
ModelDescription describe_granitemoeshared(ConfigFields& fields, const TensorStore& store) {
  return describe_stored(fields, store,
                         {.mlp = "block_sparse_moe.",
                          .down = "output_linear",
                          .fused_gate_up = "input_linear",
                          .shared = "shared_mlp.",
                          .stacked_gate_up = "input_linear.weight",
                          .stacked_down = "output_linear.weight"});
}

FamilyClass class_of_granitemoeshared() { return {"GraniteMoeSharedForCausalLM", {kMixtureOfExperts, ""}}; }

}  // namespace spectrace
