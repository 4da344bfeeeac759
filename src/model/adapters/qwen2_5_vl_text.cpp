#include "../parts/qwen_like.hpp"

namespace spectrace {

/// The text model of Qwen2.5-VL (2025, arXiv:2502.13923).
ModelDescription describe_qwen2_5_vl_text(ConfigFields& fields, const TensorStore& store) {
  return describe_qwen2_vl_like(fields, store);
}

FamilyClass class_of_qwen2_5_vl_text() { return {"Qwen2_5_VLForConditionalGeneration"}; }

}  // namespace spectrace
