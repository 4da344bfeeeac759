#include "../parts/glm_like.hpp"

namespace spectrace {

/// GLM (GLM Team 2024, arXiv:2406.12793), as transformers has it: glm-4-9b-hf and its relatives.
ModelDescription describe_glm(ConfigFields& fields, const TensorStore& store) {
  return describe_glm_like(fields, store).model;
}

FamilyClass class_of_glm() { return {"GlmForCausalLM"}; }

}  // namespace spectrace
