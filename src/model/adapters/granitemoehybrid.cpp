#include "../parts/stored_layers.hpp"

namespace spectrace {

/// Granite 4 (IBM 2025): where its matrices lie, also of models without experts. Mamba 2, in most layers, is no
/// attention.
ModelDescription describe_granitemoehybrid(ConfigFields& fields, const TensorStore& store) {
  return describe_stored(fields, store,
                         {.mlp = "block_sparse_moe.",
                          .down = "output_linear",
                          .fused_gate_up = "input_linear",
                          .shared = "shared_mlp.",
                          .stacked_gate_up = "input_linear.weight",
                          .stacked_down = "output_linear.weight",
                          .is_hybrid = true});
}

FamilyClass class_of_granitemoehybrid() { return {"GraniteMoeHybridForCausalLM", {kMixtureOfExperts, ""}}; }

}  // namespace spectrace
