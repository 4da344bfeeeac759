#pragma once

#include "llama_like.hpp"

namespace spectrace {

/// sqrt(D) as Gemma multiplies its embeddings by it: rounded to float32, the type of the model's buffer.
double gemma_embedding_scale(std::int64_t hidden_size);

/// Llama's layer with Gemma-2's four norms: before and after attention, before and after the MLP.
LayerSources gemma2_layer(const LlamaLike& llama, const SourceNames& names, std::int64_t layer,
                          const LlamaBiases& biases);

/// A model with Gemma-2's fields, read but for its layers' and embeddings' sources.
struct Gemma2Like {
  LlamaLike llama;
  LlamaBiases biases;
  bool tied = true;
};
Gemma2Like read_gemma2_like(ConfigFields& fields);
void set_gemma2_embedding(Gemma2Like& gemma, const SourceNames& names);

/// Gemma-2's attention: 1 / sqrt(query_pre_attn_scalar), soft cap; and the soft cap of its logits.
void set_gemma2_scores(LlamaLike& llama, ConfigFields& fields, std::optional<double> default_softcap,
                       std::optional<double> default_logit_softcap);

}  // namespace spectrace
