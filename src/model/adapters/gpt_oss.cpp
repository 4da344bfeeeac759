#include "../parts/stored_layers.hpp"

namespace spectrace {

/// gpt-oss (OpenAI 2025, arXiv:2508.10925): where its matrices lie, in bfloat16 or MXFP4.
ModelDescription describe_gpt_oss(ConfigFields& fields, const TensorStore& store) {
  return describe_stored(fields, store, {.num_kv_heads = 8, .head_dim = 64, .stacks = ExpertStacks::taking_turns});
}

FamilyClass class_of_gpt_oss() { return {"GptOssForCausalLM", {kMixtureOfExperts, ""}}; }

}  // namespace spectrace
