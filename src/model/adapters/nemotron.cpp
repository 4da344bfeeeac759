#include "../parts/llama_like.hpp"

namespace spectrace {

/// Nemotron-3 and -4, Minitron (Parmar et al. 2024, arXiv:2402.16819): LayerNorm with 1 + w, squared ReLU without a
/// gate, rotary on a share of each head.
ModelDescription describe_nemotron(ConfigFields& fields, const TensorStore& store) {
  LlamaLike llama = read_llama_like(fields, {.activation = "relu2",
                                             .norm = NormKind::layer_norm,
                                             .epsilon_field = "norm_eps",
                                             .epsilon = 1e-5,
                                             .norm_weight_offset = 1.0,
                                             .max_positions = 4096,
                                             .gated_mlp = false});
  const RopeFields rope_fields{.partial = "partial_rotary_factor", .default_partial = 0.5};
  set_attention(llama, read_rope(fields, rope_fields, llama.model.head_dim, llama.model.max_positions));
  const Bias attention = fields.flag("attention_bias", false) ? Bias::yes : Bias::no;
  const Bias mlp = fields.flag("mlp_bias", false) ? Bias::yes : Bias::no;
  const bool tied = fields.tied(false);

  const SourceNames names = llama_names(store);
  for (std::int64_t i = 0; i < llama.model.num_layers; ++i)
    llama.model.layers.push_back(llama_layer(llama, names, i, {attention, attention, mlp, Bias::yes}));
  set_llama_embedding(llama, names, tied, Bias::yes);
  return llama.model;
}

FamilyClass class_of_nemotron() { return {"NemotronForCausalLM"}; }

}  // namespace spectrace
