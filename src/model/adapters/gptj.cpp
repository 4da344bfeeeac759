#include <cmath>

#include "../config_fields.hpp"
#include "../rope.hpp"
#include "../sources.hpp"

namespace spectrace {

/// GPT-J (Wang & Komatsuzaki 2021): parallel residual on one norm, rotary on pairs of neighbours in the first
/// rotary_dim dimensions of each head.
ModelDescription describe_gptj(ConfigFields& fields, const TensorStore& store) {
  constexpr double kTheta = 10000.0;  // no field of the config
  const Dim hidden{fields.size({"n_embd", "hidden_size"}), "n_embd"};
  const Dim vocab{fields.size({"vocab_size"}), "vocab_size"};
  const Dim inner{fields.size_or({"n_inner"}, 4 * hidden.size), "n_inner"};

  ModelDescription model;
  model.num_layers = fields.layers({"n_layer", "num_hidden_layers"});
  model.num_heads = model.num_kv_heads = fields.heads({"n_head", "num_attention_heads"});
  model.head_dim = fields.divided_head_dim(hidden.size, model.num_heads);
  model.hidden_size = hidden.size;
  model.vocab_size = vocab.size;
  model.intermediate_size = inner.size;
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
  const bool tied = fields.tied(false);

  const SourceNames names(store, {"transformer.", ""}, "wte.weight");
  for (std::int64_t i = 0; i < model.num_layers; ++i) {
    const std::string base = "h." + std::to_string(i) + ".";
    LayerSources layer;
    layer.w_q = names.linear(base + "attn.q_proj", hidden, hidden, Bias::no);
    layer.w_k = names.linear(base + "attn.k_proj", hidden, hidden, Bias::no);
    layer.w_v = names.linear(base + "attn.v_proj", hidden, hidden, Bias::no);
    layer.w_o = names.linear(base + "attn.out_proj", hidden, hidden, Bias::no);
    layer.attention_input_norm = names.norm(base + "ln_1", hidden, Bias::yes);
    layer.mlp_up = names.linear(base + "mlp.fc_in", inner, hidden, Bias::yes);
    layer.mlp_down = names.linear(base + "mlp.fc_out", hidden, inner, Bias::yes);
    model.layers.push_back(layer);
  }
  model.embedding.token = names.matrix("wte.weight", vocab, hidden);
  model.embedding.final_norm = names.norm("ln_f", hidden, Bias::yes);
  names.unembedding(model.embedding, {"lm_head.weight"}, tied, vocab, hidden);
  if (names.has("lm_head.bias")) {
    model.embedding.unembedding_bias = names.vector("lm_head.bias", vocab);
    model.embedding.unembedding_bias->tensor = "lm_head.bias";
  }
  return model;
}

}  // namespace spectrace
