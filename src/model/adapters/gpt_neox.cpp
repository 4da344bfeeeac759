#include <cmath>

#include "../config_fields.hpp"
#include "../rope.hpp"
#include "../sources.hpp"

namespace spectrace {

/// GPT-NeoX and Pythia (Black et al. 2022, arXiv:2204.06745): q k v fused per head, rotary on a share of each head,
/// parallel residual with two norms (or the usual order).
ModelDescription describe_gpt_neox(ConfigFields& fields, const TensorStore& store) {
  const Dim hidden{fields.size({"hidden_size"}), "hidden_size"};
  const Dim vocab{fields.size({"vocab_size"}), "vocab_size"};
  const Dim inner{fields.size({"intermediate_size"}), "intermediate_size"};

  ModelDescription model;
  model.num_layers = fields.layers({"num_hidden_layers"});
  model.num_heads = model.num_kv_heads = fields.heads({"num_attention_heads"});
  model.head_dim = fields.divided_head_dim(hidden.size, model.num_heads);
  model.hidden_size = hidden.size;
  model.vocab_size = vocab.size;
  model.intermediate_size = inner.size;
  model.max_positions = fields.count_or({"max_position_embeddings"}, 2048);
  model.norm_placement = "pre";
  model.position_encoding = "rotary";
  model.fused_qkv_per_head = true;
  model.block.norm = {NormKind::layer_norm, fields.epsilon("layer_norm_eps", 1e-5), 0.0};
  model.block.activation = fields.activation({"hidden_act"}, "gelu");
  model.block.parallel_residual = fields.flag("use_parallel_residual", true);

  const RopeFields rope_fields{.theta = "rotary_emb_base", .partial = "rotary_pct", .default_partial = 0.25};
  const RopeReading rope = read_rope(fields, rope_fields, model.head_dim, model.max_positions);
  model.rope_facts = rope.facts;
  // Files of transformers 4.45 to 4.57 have the share under both names.
  if (const auto share = fields.find("partial_rotary_factor");
      share && share->as_double() != fields.number("rotary_pct", rope_fields.default_partial))
    fields.warn("'partial_rotary_factor' is ignored, as in transformers: the family turns the share 'rotary_pct'");
  const Bias attention_bias = fields.flag("attention_bias", true) ? Bias::yes : Bias::no;
  const bool tied = fields.tied(false);

  const SourceNames names(store, {"gpt_neox.", ""}, "embed_in.weight");
  const FusedRows rows = fused_per_group(model.num_heads, model.num_heads, model.head_dim);
  AttentionSpec attention;
  attention.score_scale = 1.0 / std::sqrt(static_cast<double>(model.head_dim));
  attention.rotary = rope.rotary;
  model.attention.assign(static_cast<std::size_t>(model.num_layers), attention);
  for (std::int64_t i = 0; i < model.num_layers; ++i) {
    const std::string base = "layers." + std::to_string(i) + ".";
    LayerSources layer;
    names.fused_qkv(layer, base + "attention.query_key_value", 3 * hidden, hidden, attention_bias, rows);
    layer.w_o = names.linear(base + "attention.dense", hidden, hidden, attention_bias);
    layer.attention_input_norm = names.norm(base + "input_layernorm", hidden, Bias::yes);
    layer.mlp_input_norm = names.norm(base + "post_attention_layernorm", hidden, Bias::yes);
    layer.mlp_up = names.linear(base + "mlp.dense_h_to_4h", inner, hidden, Bias::yes);
    layer.mlp_down = names.linear(base + "mlp.dense_4h_to_h", hidden, inner, Bias::yes);
    model.layers.push_back(layer);
  }
  model.embedding.token = names.matrix("embed_in.weight", vocab, hidden);
  model.embedding.final_norm = names.norm("final_layer_norm", hidden, Bias::yes);
  names.unembedding(model.embedding, {"embed_out.weight", "lm_head.weight"}, tied, vocab, hidden);
  return model;
}

FamilyClass class_of_gpt_neox() { return {"GPTNeoXForCausalLM"}; }

}  // namespace spectrace
