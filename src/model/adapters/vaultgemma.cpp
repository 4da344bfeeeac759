#include "../parts/gemma_like.hpp"

namespace spectrace {

/// VaultGemma (2025, arXiv:2510.15001): Gemma-2 without the norms on the outputs of attention and MLP.
ModelDescription describe_vaultgemma(ConfigFields& fields, const TensorStore& store) {
  Gemma2Like gemma = read_gemma2_like(fields);

  const SourceNames names = llama_names(store);
  for (std::int64_t i = 0; i < gemma.llama.model.num_layers; ++i) {
    LayerSources layer = gemma2_layer(gemma.llama, names, i, gemma.biases);
    layer.attention_output_norm.reset();
    layer.mlp_output_norm.reset();
    gemma.llama.model.layers.push_back(layer);
  }
  set_gemma2_embedding(gemma, names);
  return gemma.llama.model;
}

FamilyClass class_of_vaultgemma() { return {"VaultGemmaForCausalLM"}; }

}  // namespace spectrace
