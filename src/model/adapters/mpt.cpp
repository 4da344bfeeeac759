#include <algorithm>
#include <array>
#include <cmath>

#include "../config_fields.hpp"
#include "../parts/alibi.hpp"
#include "../sources.hpp"

namespace spectrace {
namespace {

constexpr std::array kRead = {"attn_type",     "attn_impl", "attn_pdrop", "alibi",     "alibi_bias_max",
                              "softmax_scale", "clip_qkv",  "qk_ln",      "prefix_lm", "attn_uses_sequence_id"};
/// What older transformers wrote into every config inside another.
constexpr std::array kOfAnyConfig = {"model_type",  "transformers_version", "dtype",    "torch_dtype", "max_length",
                                     "return_dict", "tie_word_embeddings",  "id2label", "label2id",    "top_k"};

template <typename Names>
bool holds(const Names& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

/// Every key is read, or refused by name where it is on.
void expect_usual_attention(const JsonNode& config) {
  config.for_each_member([&](const std::string& key, const JsonNode& value) {
    if (!holds(kRead, key) && !holds(kOfAnyConfig, key) && !is_off(value))
      throw value.error("is not known", "it may change the forward pass, so it is not ignored");
  });
  for (const char* key : {"qk_ln", "prefix_lm", "attn_uses_sequence_id"})
    if (config.get_bool(key, false))
      throw config.at(key).error("is true", "only causal attention without norms of queries and keys is supported");
  if (!config.get_bool("alibi", true))
    throw config.at("alibi").error("is false", "only MPT with ALiBi is supported, not learned positions");
  const std::string type = config.get_string("attn_type", "multihead_attention");
  if (type != "multihead_attention")
    throw config.at("attn_type").error("is '" + type + "'", "known: 'multihead_attention'");
  const std::string implementation = config.get_string("attn_impl", "torch");
  if (!holds(std::array{"torch", "flash", "triton"}, implementation))
    throw config.at("attn_impl").error("is '" + implementation + "'", "known: 'flash', 'torch', 'triton'");
}

AttentionSpec read_attention(ConfigFields& fields, const ModelDescription& model) {
  constexpr std::int64_t kMostBias = 100;  // slopes down to 2^-100; no model has more than 16
  const JsonNode config =
      fields.find("attn_config").value_or(JsonNode::of(Json::object(), "attn_config", ErrorKind::model));
  expect_usual_attention(config);
  AttentionSpec attention;
  attention.score_scale = as_scale_or(config, "softmax_scale", 1.0 / std::sqrt(static_cast<double>(model.head_dim)));
  if (config.get_double("clip_qkv", 0.0) != 0.0) attention.clip_qkv = as_scale(config.at("clip_qkv"));
  const std::int64_t bias_max = config.get_int("alibi_bias_max", 8);
  if (bias_max < 1 || bias_max > kMostBias)
    throw config.at("alibi_bias_max").error("is " + std::to_string(bias_max) + ", expected 1 to 100");
  attention.alibi_slopes = alibi_slopes(model.num_heads, bias_max);
  attention.alibi_from_last = true;
  return attention;
}

double read_logit_scale(ConfigFields& fields, std::int64_t hidden_size) {
  const auto scale = fields.find("logit_scale");
  if (!scale) return 1.0;
  if (!scale->is_string()) return as_scale(*scale);
  if (scale->as_string() != "inv_sqrt_d_model")
    throw scale->error("is '" + scale->as_string() + "'", "known: a number, 'inv_sqrt_d_model'");
  return 1.0 / std::sqrt(static_cast<double>(hidden_size));
}

void expect_usual_block(ConfigFields& fields) {
  if (!fields.flag("no_bias", true))
    throw fields.json().error("the field 'no_bias' is false", "only MPT without biases is supported");
  if (const std::int64_t ratio = fields.count_or({"expansion_ratio"}, 4); ratio != 4)
    throw fields.json().error("the field 'expansion_ratio' is " + std::to_string(ratio), "only 4 is supported");
  const std::string norm = fields.text({"norm_type"}, "low_precision_layernorm");
  if (norm != "low_precision_layernorm" && norm != "layernorm")
    throw fields.json().error("unknown norm '" + norm + "' in the field 'norm_type'",
                              "known: 'layernorm', 'low_precision_layernorm'");
}

}  // namespace

/// MPT (MosaicML 2023): ALiBi, nothing but matrices and LayerNorm weights; in some models q, k and v are clipped.
ModelDescription describe_mpt(ConfigFields& fields, const TensorStore& store) {
  const Dim hidden{fields.size({"d_model", "hidden_size"}), "d_model"};
  const Dim vocab{fields.size({"vocab_size"}), "vocab_size"};
  const Dim inner = 4 * hidden;

  ModelDescription model;
  model.num_layers = fields.layers({"n_layers", "num_hidden_layers"});
  model.num_heads = model.num_kv_heads = fields.heads({"n_heads", "num_attention_heads"});
  model.head_dim = fields.divided_head_dim(hidden.size, model.num_heads);
  model.hidden_size = hidden.size;
  model.vocab_size = vocab.size;
  model.intermediate_size = inner.size;
  model.max_positions = fields.count_or({"max_seq_len"}, 2048);
  model.norm_placement = "pre";
  model.position_encoding = "alibi";
  model.block.norm = {NormKind::layer_norm, fields.epsilon("layer_norm_epsilon", 1e-5), 0.0};
  model.block.activation = Activation::gelu;  // no field of the config
  expect_usual_block(fields);
  model.attention.assign(static_cast<std::size_t>(model.num_layers), read_attention(fields, model));
  model.embedding.logits.scale = read_logit_scale(fields, hidden.size);
  const bool tied = fields.tied(true);

  const SourceNames names(store, {"transformer.", ""}, "wte.weight");
  const FusedRows rows = fused_blocks(model.num_heads, model.num_heads, model.head_dim);
  for (std::int64_t i = 0; i < model.num_layers; ++i) {
    const std::string base = "blocks." + std::to_string(i) + ".";
    LayerSources layer;
    names.fused_qkv(layer, base + "attn.Wqkv", 3 * hidden, hidden, Bias::no, rows);
    layer.w_o = names.linear(base + "attn.out_proj", hidden, hidden, Bias::no);
    layer.attention_input_norm = names.norm(base + "norm_1", hidden, Bias::no);
    layer.mlp_input_norm = names.norm(base + "norm_2", hidden, Bias::no);
    layer.mlp_up = names.linear(base + "ffn.up_proj", inner, hidden, Bias::no);
    layer.mlp_down = names.linear(base + "ffn.down_proj", hidden, inner, Bias::no);
    model.layers.push_back(layer);
  }
  model.embedding.token = names.matrix("wte.weight", vocab, hidden);
  model.embedding.final_norm = names.norm("norm_f", hidden, Bias::no);
  names.unembedding(model.embedding, {"lm_head.weight"}, tied, vocab, hidden);
  return model;
}

FamilyClass class_of_mpt() { return {"MptForCausalLM"}; }

}  // namespace spectrace
