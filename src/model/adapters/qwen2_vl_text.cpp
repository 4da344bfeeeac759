#include "../parts/qwen_like.hpp"

namespace spectrace {

/// The text model of Qwen2-VL (2024, arXiv:2409.12191).
ModelDescription describe_qwen2_vl_text(ConfigFields& fields, const TensorStore& store) {
  return describe_qwen2_vl_like(fields, store);
}

FamilyClass class_of_qwen2_vl_text() { return {"Qwen2VLForConditionalGeneration"}; }

}  // namespace spectrace
