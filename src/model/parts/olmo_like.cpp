#include "olmo_like.hpp"

namespace spectrace {

LayerSources olmo2_layer(const LlamaLike& llama, const SourceNames& names, std::int64_t layer,
                         const LlamaBiases& biases) {
  const std::string attention = layer_base(layer) + "self_attn.";
  LayerSources sources = output_norms_layer(llama, names, layer, biases);
  sources.query_norm = names.norm(attention + "q_norm", llama.queries, Bias::no);
  sources.key_norm = names.norm(attention + "k_norm", llama.keys, Bias::no);
  return sources;
}

}  // namespace spectrace
