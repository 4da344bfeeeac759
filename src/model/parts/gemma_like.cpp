#include "gemma_like.hpp"

#include <cmath>

namespace spectrace {

double gemma_embedding_scale(std::int64_t hidden_size) {
  return static_cast<double>(static_cast<float>(std::sqrt(static_cast<double>(hidden_size))));
}

LayerSources gemma2_layer(const LlamaLike& llama, const SourceNames& names, std::int64_t layer,
                          const LlamaBiases& biases) {
  const std::string base = "layers." + std::to_string(layer) + ".";
  LayerSources sources = llama_layer(llama, names, layer, biases);
  sources.attention_output_norm = names.norm(base + "post_attention_layernorm", llama.hidden, Bias::no);
  sources.mlp_input_norm = names.norm(base + "pre_feedforward_layernorm", llama.hidden, Bias::no);
  sources.mlp_output_norm = names.norm(base + "post_feedforward_layernorm", llama.hidden, Bias::no);
  return sources;
}

void set_gemma2_scores(LlamaLike& llama, ConfigFields& fields, std::optional<double> default_softcap,
                       std::optional<double> default_logit_softcap) {
  const double scalar = fields.scale("query_pre_attn_scalar", 256.0);
  const auto softcap = fields.optional_scale("attn_logit_softcapping", default_softcap);
  for (AttentionSpec& attention : llama.model.attention) {
    attention.score_scale = 1.0 / std::sqrt(scalar);
    attention.score_softcap = softcap;
  }
  llama.model.embedding.logits.softcap = fields.optional_scale("final_logit_softcapping", default_logit_softcap);
  fields.refuse_if_set("use_bidirectional_attention", "only causal attention is supported");
}

}  // namespace spectrace
