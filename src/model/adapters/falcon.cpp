#include <cmath>

#include "../config_fields.hpp"
#include "../parts/alibi.hpp"
#include "../rope.hpp"
#include "../sources.hpp"

namespace spectrace {
namespace {

/// Which of Falcon's three shapes of block this is.
struct FalconShape {
  bool grouped = false;    ///< new_decoder_architecture: 40B, 180B, 11B
  bool parallel = true;    ///< parallel_attn; RefinedWeb models have none
  bool two_norms = false;  ///< ln_attn and ln_mlp instead of one norm for both
  std::int64_t num_kv_heads = 1;
};

FalconShape read_shape(ConfigFields& fields, std::int64_t num_heads) {
  FalconShape shape;
  shape.grouped = fields.flag("new_decoder_architecture", false);
  shape.parallel = fields.flag("parallel_attn", true);
  const bool multi_query = fields.flag("multi_query", true);
  const std::int64_t groups = fields.size_or({"num_kv_heads", "n_head_kv"}, num_heads);
  shape.num_kv_heads = shape.grouped ? groups : multi_query ? 1 : num_heads;
  fields.check_heads(num_heads, shape.num_kv_heads, "num_kv_heads");
  const std::int64_t norms = fields.count_or({"num_ln_in_parallel_attn"}, shape.grouped ? 2 : 1);
  if (norms > 2 || (norms == 2 && !shape.grouped) || (shape.grouped && !shape.parallel))
    throw fields.json().error("num_ln_in_parallel_attn, parallel_attn and new_decoder_architecture do not fit together",
                              "no Falcon model has that block");
  shape.two_norms = norms == 2;
  fields.refuse_if_set("apply_residual_connection_post_layernorm", "Falcon adds to what enters the norm");
  return shape;
}

}  // namespace

/// Falcon (Almazrouei et al. 2023, arXiv:2311.16867): parallel residual; one key/value head (7B), groups that lie
/// together in the fused matrix (40B), or ALiBi and a serial block (RefinedWeb).
ModelDescription describe_falcon(ConfigFields& fields, const TensorStore& store) {
  const Dim hidden{fields.size({"n_embed", "hidden_size"}), "hidden_size"};
  const Dim vocab{fields.size({"vocab_size"}), "vocab_size"};
  const Dim inner{fields.size_or({"ffn_hidden_size"}, 4 * hidden.size), "ffn_hidden_size"};

  ModelDescription model;
  model.num_layers = fields.layers({"num_hidden_layers", "n_layer"});
  model.num_heads = fields.heads({"num_attention_heads", "n_head"});
  const FalconShape shape = read_shape(fields, model.num_heads);
  model.num_kv_heads = shape.num_kv_heads;
  model.head_dim = fields.divided_head_dim(hidden.size, model.num_heads);
  model.hidden_size = hidden.size;
  model.vocab_size = vocab.size;
  model.intermediate_size = inner.size;
  model.max_positions = fields.count_or({"max_position_embeddings"}, 2048);
  model.norm_placement = "pre";
  model.block.norm = {NormKind::layer_norm, fields.epsilon("layer_norm_epsilon", 1e-5), 0.0};
  model.block.activation = fields.activation({"activation"}, "gelu");
  model.block.parallel_residual = shape.parallel;

  AttentionSpec attention;
  attention.score_scale = 1.0 / std::sqrt(static_cast<double>(model.head_dim));
  model.position_encoding = fields.flag("alibi", false) ? "alibi" : "rotary";
  if (model.position_encoding == "alibi") {
    attention.alibi_slopes = alibi_slopes(model.num_heads);
    attention.alibi_scale = attention.score_scale;
    attention.alibi_in_bfloat16 = true;
  } else {
    const RopeReading rope = read_rope(fields, {}, model.head_dim, model.max_positions);
    attention.rotary = rope.rotary;
    model.rope_facts = rope.facts;
  }
  model.attention.assign(static_cast<std::size_t>(model.num_layers), attention);
  const Bias bias = fields.flag("bias", false) ? Bias::yes : Bias::no;
  const bool tied = fields.tied(true);

  const SourceNames names(store, {"transformer.", ""}, "word_embeddings.weight");
  const FusedRows rows = fused_per_group(model.num_heads, model.num_kv_heads, model.head_dim);
  const Dim key_values{2 * model.num_kv_heads * model.head_dim, "num_kv_heads"};
  for (std::int64_t i = 0; i < model.num_layers; ++i) {
    const std::string base = "h." + std::to_string(i) + ".";
    LayerSources layer;
    names.fused_qkv(layer, base + "self_attention.query_key_value", hidden + key_values, hidden, bias, rows);
    layer.w_o = names.linear(base + "self_attention.dense", hidden, hidden, bias);
    layer.attention_input_norm =
        names.norm(base + (shape.two_norms ? "ln_attn" : "input_layernorm"), hidden, Bias::yes);
    if (shape.two_norms) layer.mlp_input_norm = names.norm(base + "ln_mlp", hidden, Bias::yes);
    if (!shape.parallel) layer.mlp_input_norm = names.norm(base + "post_attention_layernorm", hidden, Bias::yes);
    layer.mlp_up = names.linear(base + "mlp.dense_h_to_4h", inner, hidden, bias);
    layer.mlp_down = names.linear(base + "mlp.dense_4h_to_h", hidden, inner, bias);
    model.layers.push_back(layer);
  }
  model.embedding.token = names.matrix("word_embeddings.weight", vocab, hidden);
  model.embedding.final_norm = names.norm("ln_f", hidden, Bias::yes);
  names.unembedding(model.embedding, {"lm_head.weight"}, tied, vocab, hidden);
  return model;
}

FamilyClass class_of_falcon() { return {"FalconForCausalLM"}; }

}  // namespace spectrace
