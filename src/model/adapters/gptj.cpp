#include "../parts/gptj_like.hpp"

namespace spectrace {

/// GPT-J (Wang & Komatsuzaki 2021): parallel residual on one norm, rotary on pairs of neighbours in the first
/// rotary_dim dimensions of each head.
ModelDescription describe_gptj(ConfigFields& fields, const TensorStore& store) {
  GptjLike gptj = read_gptj_like(fields);
  const bool tied = fields.tied(false);

  const SourceNames names(store, {"transformer.", ""}, "wte.weight");
  for (std::int64_t i = 0; i < gptj.model.num_layers; ++i) {
    const std::string base = "h." + std::to_string(i) + ".";
    LayerSources layer = gptj_layer(gptj, names, base);
    layer.w_q = names.linear(base + "attn.q_proj", gptj.hidden, gptj.hidden, Bias::no);
    layer.w_k = names.linear(base + "attn.k_proj", gptj.hidden, gptj.hidden, Bias::no);
    layer.w_v = names.linear(base + "attn.v_proj", gptj.hidden, gptj.hidden, Bias::no);
    gptj.model.layers.push_back(layer);
  }
  set_gptj_embedding(gptj, names, tied);
  return gptj.model;
}

FamilyClass class_of_gptj() { return {"GPTJForCausalLM"}; }

}  // namespace spectrace
