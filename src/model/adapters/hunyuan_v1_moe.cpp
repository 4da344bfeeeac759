#include "../parts/stored_layers.hpp"

namespace spectrace {

/// Hunyuan-A13B (Tencent 2025): where its matrices lie.
ModelDescription describe_hunyuan_v1_moe(ConfigFields& fields, const TensorStore& store) {
  return describe_stored(fields, store, {.shared = "mlp.shared_mlp."});
}

FamilyClass class_of_hunyuan_v1_moe() { return {"HunYuanMoEV1ForCausalLM", {kMixtureOfExperts, ""}}; }

}  // namespace spectrace
