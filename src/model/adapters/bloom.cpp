#include <cmath>

#include "../config_fields.hpp"
#include "../parts/alibi.hpp"
#include "../sources.hpp"

namespace spectrace {

/// BLOOM (2022, arXiv:2211.05100): ALiBi, q k v fused per head, a norm right after the embedding.
ModelDescription describe_bloom(ConfigFields& fields, const TensorStore& store) {
  const Dim hidden{fields.size({"n_embed", "hidden_size"}), "hidden_size"};
  const Dim vocab{fields.size({"vocab_size"}), "vocab_size"};
  const Dim inner = 4 * hidden;

  ModelDescription model;
  model.num_layers = fields.layers({"n_layer", "num_hidden_layers"});
  model.num_heads = model.num_kv_heads = fields.heads({"n_head", "num_attention_heads"});
  model.head_dim = fields.divided_head_dim(hidden.size, model.num_heads);
  model.hidden_size = hidden.size;
  model.vocab_size = vocab.size;
  model.intermediate_size = inner.size;
  model.max_positions = fields.count_or({"seq_length"}, 2048);
  model.norm_placement = "pre";
  model.position_encoding = "alibi";
  model.fused_qkv_per_head = true;
  model.block.norm = {NormKind::layer_norm, fields.epsilon("layer_norm_epsilon", 1e-5), 0.0};
  model.block.activation = Activation::gelu_tanh_short;  // no field of the config
  model.block.residual_from_norm = fields.flag("apply_residual_connection_post_layernorm", false);
  if (fields.flag("slow_but_exact", false) && fields.count_or({"pretraining_tp"}, 1) > 1)
    throw fields.json().error("slow_but_exact is set, with pretraining_tp of more than 1",
                              "transformers then leaves out two biases of each block, which cannot be meant",
                              "Set slow_but_exact to false: it only changes how sums are split.");
  const bool tied = fields.tied(true);

  AttentionSpec attention;
  attention.score_scale = 1.0 / std::sqrt(static_cast<double>(model.head_dim));
  attention.alibi_slopes = alibi_slopes(model.num_heads);
  model.attention.assign(static_cast<std::size_t>(model.num_layers), attention);

  const SourceNames names(store, {"transformer.", ""}, "word_embeddings.weight");
  const FusedRows rows = fused_per_group(model.num_heads, model.num_heads, model.head_dim);
  for (std::int64_t i = 0; i < model.num_layers; ++i) {
    const std::string base = "h." + std::to_string(i) + ".";
    LayerSources layer;
    names.fused_qkv(layer, base + "self_attention.query_key_value", 3 * hidden, hidden, Bias::yes, rows);
    layer.w_o = names.linear(base + "self_attention.dense", hidden, hidden, Bias::yes);
    layer.attention_input_norm = names.norm(base + "input_layernorm", hidden, Bias::yes);
    layer.mlp_input_norm = names.norm(base + "post_attention_layernorm", hidden, Bias::yes);
    layer.mlp_up = names.linear(base + "mlp.dense_h_to_4h", inner, hidden, Bias::yes);
    layer.mlp_down = names.linear(base + "mlp.dense_4h_to_h", hidden, inner, Bias::yes);
    model.layers.push_back(layer);
  }
  model.embedding.token = names.matrix("word_embeddings.weight", vocab, hidden);
  model.embedding.norm = names.norm("word_embeddings_layernorm", hidden, Bias::yes);
  model.embedding.final_norm = names.norm("ln_f", hidden, Bias::yes);
  names.unembedding(model.embedding, {"lm_head.weight"}, tied, vocab, hidden);
  return model;
}

FamilyClass class_of_bloom() { return {"BloomForCausalLM"}; }

}  // namespace spectrace
