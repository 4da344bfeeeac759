#include "fairseq_like.hpp"

namespace spectrace {

LayerSources fairseq_layer(const SourceNames& names, const std::string& base, const Dim& hidden, const Dim& inner,
                           Bias bias) {
  LayerSources layer;
  layer.w_q = names.linear(base + "self_attn.q_proj", hidden, hidden, bias);
  layer.w_k = names.linear(base + "self_attn.k_proj", hidden, hidden, bias);
  layer.w_v = names.linear(base + "self_attn.v_proj", hidden, hidden, bias);
  layer.w_o = names.linear(base + "self_attn.out_proj", hidden, hidden, bias);
  layer.attention_input_norm = names.norm(base + "self_attn_layer_norm", hidden, Bias::yes);
  layer.mlp_input_norm = names.norm(base + "final_layer_norm", hidden, Bias::yes);
  layer.mlp_up = names.linear(base + "fc1", inner, hidden, bias);
  layer.mlp_down = names.linear(base + "fc2", hidden, inner, bias);
  return layer;
}

}  // namespace spectrace
