#include "llama_like.hpp"

#include <cmath>

namespace spectrace {

LlamaLike read_llama_like(ConfigFields& fields, const LlamaDefaults& defaults) {
  LlamaLike llama;
  ModelDescription& model = llama.model;
  llama.hidden = {fields.size({"hidden_size"}, defaults.hidden_size), "hidden_size"};
  llama.vocab = {fields.size({"vocab_size"}, defaults.vocab_size), "vocab_size"};
  llama.inner = {fields.size({"intermediate_size"}, defaults.intermediate_size), "intermediate_size"};
  model.num_layers = fields.layers({"num_hidden_layers"}, defaults.num_layers);
  model.num_heads = fields.heads({"num_attention_heads"}, defaults.num_heads);
  const bool all_heads = defaults.num_kv_heads == 0 || fields.is_null("num_key_value_heads");
  model.num_kv_heads = fields.size_or({"num_key_value_heads"}, all_heads ? model.num_heads : defaults.num_kv_heads);
  fields.check_heads(model.num_heads, model.num_kv_heads, "num_key_value_heads");
  const std::int64_t usual_head_dim = fields.is_null("head_dim") ? 0 : defaults.head_dim;
  model.head_dim = fields.head_dim({"head_dim"}, usual_head_dim, llama.hidden.size, model.num_heads);

  const Dim head{model.head_dim, "head_dim"};
  llama.queries = Dim{model.num_heads, "num_attention_heads"} * head;
  llama.keys = Dim{model.num_kv_heads, "num_key_value_heads"} * head;
  model.hidden_size = llama.hidden.size;
  model.vocab_size = llama.vocab.size;
  model.intermediate_size = llama.inner.size;
  model.max_positions = fields.count_or({"max_position_embeddings"}, defaults.max_positions);
  model.norm_placement = "pre";
  model.position_encoding = "rotary";
  const double epsilon =
      defaults.epsilon_field ? fields.epsilon(defaults.epsilon_field, defaults.epsilon) : defaults.epsilon;
  model.block.norm = {defaults.norm, epsilon, defaults.norm_weight_offset};
  const bool is_xielu = defaults.has_xielu && fields.text({defaults.activation_field}, defaults.activation) == "xielu";
  model.block.activation =
      is_xielu ? Activation::xielu : fields.activation({defaults.activation_field}, defaults.activation);
  model.block.gated_mlp = defaults.gated_mlp;
  return llama;
}

void set_attention(LlamaLike& llama, const RopeReading& rope) {
  AttentionSpec attention;
  attention.score_scale = 1.0 / std::sqrt(static_cast<double>(llama.model.head_dim));
  attention.rotary = rope.rotary;
  llama.model.attention.assign(static_cast<std::size_t>(llama.model.num_layers), attention);
  llama.model.rope_facts = rope.facts;
}

void set_sliding_window(LlamaLike& llama, std::int64_t window, const std::optional<std::vector<bool>>& sliding) {
  for (std::size_t i = 0; i < llama.model.attention.size(); ++i)
    if (!sliding || (*sliding)[i]) llama.model.attention[i].sliding_window = window;
}

std::vector<bool> sliding_but_every(std::int64_t nth, std::int64_t num_layers) {
  std::vector<bool> sliding;
  for (std::int64_t i = 0; i < num_layers; ++i) sliding.push_back((i + 1) % nth != 0);
  return sliding;
}

std::string layer_base(std::int64_t layer) { return "layers." + std::to_string(layer) + "."; }

SourceNames llama_names(const TensorStore& store) { return {store, {"model.", ""}, "embed_tokens.weight"}; }

LayerSources llama_layer(const LlamaLike& llama, const SourceNames& names, std::int64_t layer,
                         const LlamaBiases& biases) {
  const std::string base = layer_base(layer);
  LayerSources sources;
  sources.w_q = names.linear(base + "self_attn.q_proj", llama.queries, llama.hidden, biases.qkv);
  sources.w_k = names.linear(base + "self_attn.k_proj", llama.keys, llama.hidden, biases.qkv);
  sources.w_v = names.linear(base + "self_attn.v_proj", llama.keys, llama.hidden, biases.qkv);
  sources.w_o = names.linear(base + "self_attn.o_proj", llama.hidden, llama.queries, biases.output);
  sources.attention_input_norm = names.norm(base + "input_layernorm", llama.hidden, biases.norm);
  sources.mlp_input_norm = names.norm(base + "post_attention_layernorm", llama.hidden, biases.norm);
  if (llama.model.block.gated_mlp)
    sources.mlp_gate = names.linear(base + "mlp.gate_proj", llama.inner, llama.hidden, biases.mlp);
  sources.mlp_up = names.linear(base + "mlp.up_proj", llama.inner, llama.hidden, biases.mlp);
  sources.mlp_down = names.linear(base + "mlp.down_proj", llama.hidden, llama.inner, biases.mlp);
  return sources;
}

void set_fused_gate_up(const LlamaLike& llama, const SourceNames& names, LayerSources& layer,
                       const std::string& fused) {
  layer.mlp_up = names.linear(fused, 2 * llama.inner, llama.hidden, Bias::no);
  layer.mlp_gate = layer.mlp_up;
  layer.mlp_gate->weight.rows = {{0, llama.inner.size}};
  layer.mlp_up.weight.rows = {{llama.inner.size, llama.inner.size}};
}

LayerSources output_norms_layer(const LlamaLike& llama, const SourceNames& names, std::int64_t layer,
                                const LlamaBiases& biases) {
  const std::string base = layer_base(layer);
  LayerSources sources = llama_layer(llama, names, layer, biases);
  sources.attention_input_norm.reset();
  sources.mlp_input_norm.reset();
  sources.attention_output_norm = names.norm(base + "post_attention_layernorm", llama.hidden, Bias::no);
  sources.mlp_output_norm = names.norm(base + "post_feedforward_layernorm", llama.hidden, Bias::no);
  return sources;
}

void set_head_norms(LayerSources& layer, const LlamaLike& llama, const SourceNames& names, const std::string& query,
                    const std::string& key) {
  const Dim head{llama.model.head_dim, "head_dim"};
  layer.query_norm = names.norm(query, head, Bias::no);
  layer.key_norm = names.norm(key, head, Bias::no);
}

LlamaBiases read_attention_biases(ConfigFields& fields) {
  LlamaBiases biases;
  if (fields.flag("attention_bias", false)) biases.qkv = biases.output = Bias::yes;
  return biases;
}

ModelDescription with_llama_layers(LlamaLike llama, const TensorStore& store, const LlamaBiases& biases, bool tied) {
  const SourceNames names = llama_names(store);
  for (std::int64_t i = 0; i < llama.model.num_layers; ++i)
    llama.model.layers.push_back(llama_layer(llama, names, i, biases));
  set_llama_embedding(llama, names, tied);
  return std::move(llama.model);
}

void set_llama_embedding(LlamaLike& llama, const SourceNames& names, bool tied, Bias norm_bias) {
  EmbeddingSources& embedding = llama.model.embedding;
  embedding.token = names.matrix("embed_tokens.weight", llama.vocab, llama.hidden);
  embedding.final_norm = names.norm("norm", llama.hidden, norm_bias);
  names.unembedding(embedding, {"lm_head.weight"}, tied, llama.vocab, llama.hidden);
}

}  // namespace spectrace
