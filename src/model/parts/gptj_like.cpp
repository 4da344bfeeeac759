#include "gptj_like.hpp"

#include <cmath>

#include "../rope.hpp"

namespace spectrace {

GptjLike read_gptj_like(ConfigFields& fields) {
  constexpr double kTheta = 10000.0;  // no field of the config
  GptjLike gptj;
  gptj.hidden = {fields.size({"n_embd", "hidden_size"}), "n_embd"};
  gptj.vocab = {fields.size({"vocab_size"}), "vocab_size"};
  gptj.inner = {fields.size_or({"n_inner"}, 4 * gptj.hidden.size), "n_inner"};

  ModelDescription& model = gptj.model;
  model.num_layers = fields.layers({"n_layer", "num_hidden_layers"});
  model.num_heads = model.num_kv_heads = fields.heads({"n_head", "num_attention_heads"});
  model.head_dim = fields.divided_head_dim(gptj.hidden.size, model.num_heads);
  model.hidden_size = gptj.hidden.size;
  model.vocab_size = gptj.vocab.size;
  model.intermediate_size = gptj.inner.size;
  model.max_positions = fields.count({"n_positions", "max_position_embeddings"});
  model.positions_are_limited = true;  // transformers holds the angles in a table of that length
  model.norm_placement = "pre";
  model.position_encoding = "rotary";
  model.block.norm = {NormKind::layer_norm, fields.epsilon("layer_norm_epsilon", 1e-5), 0.0};
  model.block.activation = fields.activation({"activation_function"}, "gelu_new");
  model.block.parallel_residual = true;

  AttentionSpec attention;
  attention.score_scale = 1.0 / std::sqrt(static_cast<double>(model.head_dim));
  const std::int64_t rotary_dim = fields.size({"rotary_dim"});
  if (rotary_dim > model.head_dim)
    throw fields.json().error("rotary_dim " + std::to_string(rotary_dim) + " is more than the head size " +
                              std::to_string(model.head_dim));
  RopeReading rope = read_rope_settings(fields, std::nullopt, kTheta, 1.0, 0, rotary_dim, model.max_positions);
  rope.rotary.interleaved = true;
  attention.rotary = rope.rotary;
  model.rope_facts = rope.facts;
  model.attention.assign(static_cast<std::size_t>(model.num_layers), attention);
  return gptj;
}

LayerSources gptj_layer(const GptjLike& gptj, const SourceNames& names, const std::string& base) {
  LayerSources layer;
  layer.w_o = names.linear(base + "attn.out_proj", gptj.hidden, gptj.hidden, Bias::no);
  layer.attention_input_norm = names.norm(base + "ln_1", gptj.hidden, Bias::yes);
  layer.mlp_up = names.linear(base + "mlp.fc_in", gptj.inner, gptj.hidden, Bias::yes);
  layer.mlp_down = names.linear(base + "mlp.fc_out", gptj.hidden, gptj.inner, Bias::yes);
  return layer;
}

void set_gptj_embedding(GptjLike& gptj, const SourceNames& names, bool tied) {
  EmbeddingSources& embedding = gptj.model.embedding;
  embedding.token = names.matrix("wte.weight", gptj.vocab, gptj.hidden);
  embedding.final_norm = names.norm("ln_f", gptj.hidden, Bias::yes);
  names.unembedding(embedding, {"lm_head.weight"}, tied, gptj.vocab, gptj.hidden);
  names.unembedding_bias(embedding, gptj.vocab);
}

}  // namespace spectrace
