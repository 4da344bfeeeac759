#include "../parts/qwen_like.hpp"

namespace spectrace {

/// MiMo-7B (Xiaomi 2025, arXiv:2505.07608, with code of its own): Qwen2, and beside it a head that predicts further
/// tokens.
ModelDescription describe_mimo(ConfigFields& fields, const TensorStore& store) {
  return describe_qwen2_like(fields, store, qwen2_defaults(), {}, /*first_window_layer=*/28);
}

FamilyClass class_of_mimo() { return {"MiMoForCausalLM"}; }

}  // namespace spectrace
