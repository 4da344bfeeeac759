#include <cmath>

#include "../config_fields.hpp"
#include "../sources.hpp"

namespace spectrace {

/// GPT-2 (Radford et al. 2019): learned positions, fused q k v stored (in, out), pre-norm.
ModelDescription describe_gpt2(ConfigFields& fields, const TensorStore& store) {
  const Dim hidden{fields.size({"n_embd", "hidden_size"}), "n_embd"};
  const Dim vocab{fields.size({"vocab_size"}), "vocab_size"};
  const Dim positions{fields.size({"n_positions", "max_position_embeddings", "n_ctx"}), "n_positions"};
  const Dim inner{fields.size_or({"n_inner"}, 4 * hidden.size), "n_inner"};

  ModelDescription model;
  model.num_layers = fields.layers({"n_layer", "num_hidden_layers"});
  model.num_heads = model.num_kv_heads = fields.heads({"n_head", "num_attention_heads"});
  model.head_dim = fields.divided_head_dim(hidden.size, model.num_heads);
  model.hidden_size = hidden.size;
  model.vocab_size = vocab.size;
  model.intermediate_size = inner.size;
  model.max_positions = positions.size;
  model.positions_are_limited = true;
  model.norm_placement = "pre";
  model.position_encoding = "learned";
  model.block.norm = {NormKind::layer_norm, fields.epsilon("layer_norm_epsilon", 1e-5), 0.0};
  model.block.activation = fields.activation({"activation_function"}, "gelu_new");

  const bool scaled = fields.flag("scale_attn_weights", true);
  const bool scaled_by_layer = fields.flag("scale_attn_by_inverse_layer_idx", false);
  fields.refuse_if_set("add_cross_attention", "a decoder of an encoder-decoder");
  const bool tied = fields.tied(true);

  const SourceNames names(store, {"transformer.", ""}, "wte.weight");
  const FusedRows rows = fused_blocks(model.num_heads, model.num_heads, model.head_dim);
  for (std::int64_t i = 0; i < model.num_layers; ++i) {
    AttentionSpec attention;
    attention.score_scale = scaled ? 1.0 / std::sqrt(static_cast<double>(model.head_dim)) : 1.0;
    if (scaled_by_layer) attention.score_scale /= static_cast<double>(i + 1);
    model.attention.push_back(attention);

    const std::string base = "h." + std::to_string(i) + ".";
    LayerSources layer;
    names.fused_qkv(layer, base + "attn.c_attn", 3 * hidden, hidden, Bias::yes, rows, Layout::in_out);
    layer.w_o = names.linear(base + "attn.c_proj", hidden, hidden, Bias::yes, Layout::in_out);
    layer.attention_input_norm = names.norm(base + "ln_1", hidden, Bias::yes);
    layer.mlp_input_norm = names.norm(base + "ln_2", hidden, Bias::yes);
    layer.mlp_up = names.linear(base + "mlp.c_fc", inner, hidden, Bias::yes, Layout::in_out);
    layer.mlp_down = names.linear(base + "mlp.c_proj", hidden, inner, Bias::yes, Layout::in_out);
    model.layers.push_back(layer);
  }
  model.embedding.token = names.matrix("wte.weight", vocab, hidden);
  model.embedding.position = names.matrix("wpe.weight", positions, hidden);
  model.embedding.final_norm = names.norm("ln_f", hidden, Bias::yes);
  names.unembedding(model.embedding, {"lm_head.weight"}, tied, vocab, hidden);
  return model;
}

FamilyClass class_of_gpt2() { return {"GPT2LMHeadModel"}; }

}  // namespace spectrace
