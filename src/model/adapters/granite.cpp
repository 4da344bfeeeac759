#include "../parts/llama_like.hpp"

namespace spectrace {

/// Granite 3, dense (IBM 2024, github.com/ibm-granite/granite-3.0-language-models): Llama with four factors, on the
/// embedding, the scores, what a layer adds, and the logits.
ModelDescription describe_granite(ConfigFields& fields, const TensorStore& store) {
  LlamaLike llama = read_llama_like(fields, {});
  set_attention(llama, read_rope(fields, {}, llama.model.head_dim, llama.model.max_positions));
  const double score_scale = fields.scale("attention_multiplier", 1.0);  // in the place of 1 / sqrt(head_dim)
  for (AttentionSpec& attention : llama.model.attention) attention.score_scale = score_scale;
  llama.model.block.residual_multiplier = fields.scale("residual_multiplier", 1.0);
  llama.model.embedding.scale = fields.scale("embedding_multiplier", 1.0);
  llama.model.embedding.logits.scale = 1.0 / fields.scale("logits_scaling", 1.0);
  LlamaBiases biases = read_attention_biases(fields);
  if (fields.flag("mlp_bias", false)) biases.mlp = Bias::yes;
  const bool tied = fields.tied(false);
  return with_llama_layers(std::move(llama), store, biases, tied);
}

FamilyClass class_of_granite() { return {"GraniteForCausalLM"}; }

}  // namespace spectrace
