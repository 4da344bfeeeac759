#include "../parts/llama_like.hpp"

namespace spectrace {

/// Hunyuan, dense (Tencent 2025, github.com/Tencent-Hunyuan/Hunyuan-7B): Llama with norms on each head's query and key
/// after they are turned.
ModelDescription describe_hunyuan_v1_dense(ConfigFields& fields, const TensorStore& store) {
  LlamaLike llama = read_llama_like(fields, {.epsilon = 1e-5});
  const RopeFields rope_fields{.own_keys = {"alpha"}};
  set_attention(llama, read_rope(fields, rope_fields, llama.model.head_dim, llama.model.max_positions));
  llama.model.block.query_key_norm_after_rotary = true;
  const LlamaBiases biases = read_attention_biases(fields);
  if (!fields.flag("use_qk_norm", true))
    throw fields.json().error("the field 'use_qk_norm' is false", "transformers' class has these norms always");
  fields.refuse_if_set("use_cla", "keys and values that layers share");
  fields.refuse_if_set("mlp_bias", "the MLP has no biases");
  const bool tied = fields.tied(false);

  const SourceNames names = llama_names(store);
  for (std::int64_t i = 0; i < llama.model.num_layers; ++i) {
    LayerSources layer = llama_layer(llama, names, i, biases);
    const std::string attention = layer_base(i) + "self_attn.";
    set_head_norms(layer, llama, names, attention + "query_layernorm", attention + "key_layernorm");
    llama.model.layers.push_back(layer);
  }
  set_llama_embedding(llama, names, tied);
  return llama.model;
}

FamilyClass class_of_hunyuan_v1_dense() { return {"HunYuanDenseV1ForCausalLM"}; }

}  // namespace spectrace
