#include "../parts/gemma_like.hpp"

namespace spectrace {

/// Gemma-2 (2024, arXiv:2408.00118): soft-capped scores, a window in every other layer, four norms with weight 1 + w,
/// embeddings times sqrt(D).
ModelDescription describe_gemma2(ConfigFields& fields, const TensorStore& store) {
  Gemma2Like gemma = read_gemma2_like(fields);

  gemma.llama.model.norm_placement = "pre+post";
  const SourceNames names = llama_names(store);
  for (std::int64_t i = 0; i < gemma.llama.model.num_layers; ++i)
    gemma.llama.model.layers.push_back(gemma2_layer(gemma.llama, names, i, gemma.biases));
  set_gemma2_embedding(gemma, names);
  return gemma.llama.model;
}

FamilyClass class_of_gemma2() { return {"Gemma2ForCausalLM"}; }

}  // namespace spectrace
