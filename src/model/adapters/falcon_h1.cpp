#include "../parts/stored_layers.hpp"

namespace spectrace {

/// Falcon-H1 (2025, arXiv:2507.22448): where its matrices lie. Each layer has Mamba 2 beside its attention.
ModelDescription describe_falcon_h1(ConfigFields& fields, const TensorStore& store) {
  return describe_stored(fields, store, {.num_kv_heads = 8, .mlp = "feed_forward."});
}

FamilyClass class_of_falcon_h1() { return {"FalconH1ForCausalLM", {kHybrid, ""}}; }

}  // namespace spectrace
