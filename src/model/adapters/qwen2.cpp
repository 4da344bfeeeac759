#include "../parts/qwen_like.hpp"

namespace spectrace {

/// Qwen2 and Qwen2.5 (2024, arXiv:2407.10671).
ModelDescription describe_qwen2(ConfigFields& fields, const TensorStore& store) {
  return describe_qwen2_like(fields, store, qwen2_defaults(), {}, /*first_window_layer=*/28);
}

FamilyClass class_of_qwen2() { return {"Qwen2ForCausalLM"}; }

}  // namespace spectrace
