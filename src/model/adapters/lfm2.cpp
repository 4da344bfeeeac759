#include "../parts/stored_layers.hpp"

namespace spectrace {

/// LFM2 (Liquid AI 2025): where its matrices lie. Short convolutions, in most layers, are no attention.
ModelDescription describe_lfm2(ConfigFields& fields, const TensorStore& store) {
  return describe_stored(fields, store, lfm2_names());
}

FamilyClass class_of_lfm2() { return {"Lfm2ForCausalLM", {kHybrid, ""}}; }

}  // namespace spectrace
