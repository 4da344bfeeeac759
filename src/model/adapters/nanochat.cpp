#include "../parts/llama_like.hpp"

namespace spectrace {

/// nanochat (Karpathy 2025, github.com/karpathy/nanochat): Llama with RMSNorms without parameters, also of the
/// embedding and of each head's query and key; turned the other way round; a plain MLP of squared ReLUs.
ModelDescription describe_nanochat(ConfigFields& fields, const TensorStore& store) {
  LlamaLike llama = read_llama_like(fields, {.activation = "relu2", .gated_mlp = false});
  RopeReading rope = read_rope(fields, {}, llama.model.head_dim, llama.model.max_positions);
  rope.rotary.reversed = true;
  set_attention(llama, rope);
  llama.model.block.query_key_norm_after_rotary = true;
  llama.model.embedding.logits.softcap = fields.optional_scale("final_logit_softcapping", 15.0);
  const LlamaBiases biases = read_attention_biases(fields);
  const bool tied = fields.tied(false);

  const SourceNames names = llama_names(store);
  for (std::int64_t i = 0; i < llama.model.num_layers; ++i) {
    LayerSources layer = llama_layer(llama, names, i, biases);
    layer.attention_input_norm = layer.mlp_input_norm = layer.query_norm = layer.key_norm = NormSource{};
    layer.mlp_up = names.linear(layer_base(i) + "mlp.fc1", llama.inner, llama.hidden, Bias::no);
    layer.mlp_down = names.linear(layer_base(i) + "mlp.fc2", llama.hidden, llama.inner, Bias::no);
    llama.model.layers.push_back(layer);
  }
  set_llama_embedding(llama, names, tied);
  llama.model.embedding.norm = llama.model.embedding.final_norm = NormSource{};
  return llama.model;
}

FamilyClass class_of_nanochat() { return {"NanoChatForCausalLM"}; }

}  // namespace spectrace
