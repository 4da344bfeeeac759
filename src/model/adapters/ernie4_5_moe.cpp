#include "../parts/stored_layers.hpp"

namespace spectrace {

/// ERNIE 4.5 MoE (Baidu 2025): where its matrices lie.
ModelDescription describe_ernie4_5_moe(ConfigFields& fields, const TensorStore& store) {
  return describe_stored(fields, store, {.num_kv_heads = 4, .tied = true, .shared = "mlp.shared_experts."});
}

FamilyClass class_of_ernie4_5_moe() { return {"Ernie4_5_MoeForCausalLM", {kMixtureOfExperts, ""}}; }

}  // namespace spectrace
