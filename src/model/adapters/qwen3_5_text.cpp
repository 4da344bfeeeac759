#include "../parts/stored_layers.hpp"

namespace spectrace {

/// Qwen3.5 (2026): where its matrices lie. Gated DeltaNet, in most layers, is no attention.
ModelDescription describe_qwen3_5_text(ConfigFields& fields, const TensorStore& store) {
  StoredNames names = qwen3_next_names();
  names.num_kv_heads = 4;
  return describe_stored(fields, store, names);
}

FamilyClass class_of_qwen3_5_text() { return {"Qwen3_5ForCausalLM", {kHybrid, ""}}; }

}  // namespace spectrace
