#include "../parts/stored_layers.hpp"

namespace spectrace {

/// MiniCPM3 (2024): where its matrices lie.
ModelDescription describe_minicpm3(ConfigFields& fields, const TensorStore& store) {
  return describe_stored_latent(fields, store, {});
}

FamilyClass class_of_minicpm3() { return {"MiniCPM3ForCausalLM", {kLatentAttention, kNoHeads}}; }

}  // namespace spectrace
