#include "../parts/stored_layers.hpp"

namespace spectrace {

/// Bamba (IBM 2024): where its matrices lie. Mamba 2, in most layers, is no attention.
ModelDescription describe_bamba(ConfigFields& fields, const TensorStore& store) {
  return describe_stored(fields, store, {.num_kv_heads = 8, .mlp = "feed_forward.", .is_hybrid = true});
}

FamilyClass class_of_bamba() { return {"BambaForCausalLM", {kHybrid, ""}}; }

}  // namespace spectrace
