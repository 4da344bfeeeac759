#include "../parts/stored_layers.hpp"

namespace spectrace {

/// Llama 4 (Meta 2025): where its matrices lie.
ModelDescription describe_llama4_text(ConfigFields& fields, const TensorStore& store) {
  return describe_stored(fields, store,
                         {.num_kv_heads = 8,
                          .head_dim = 128,
                          .mlp = "feed_forward.",
                          .shared = "feed_forward.shared_expert.",
                          .stacks = ExpertStacks::columns});
}

FamilyClass class_of_llama4_text() { return {"Llama4ForCausalLM", {kMixtureOfExperts, ""}}; }

}  // namespace spectrace
