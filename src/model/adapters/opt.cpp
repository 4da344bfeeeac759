#include <cmath>

#include "../config_fields.hpp"
#include "../parts/fairseq_like.hpp"

namespace spectrace {

/// OPT (Zhang et al. 2022, arXiv:2205.01068): learned positions from row 2 on. The 350m model is post-norm, embeds in
/// fewer dimensions than it works in, and has no final norm. Galactica is OPT without biases.
ModelDescription describe_opt(ConfigFields& fields, const TensorStore& store) {
  constexpr std::int64_t kPositionOffset = 2;
  const Dim hidden{fields.size({"hidden_size"}), "hidden_size"};
  const Dim vocab{fields.size({"vocab_size"}), "vocab_size"};
  const Dim inner{fields.size({"ffn_dim"}), "ffn_dim"};
  const Dim word{fields.size_or({"word_embed_proj_dim"}, hidden.size), "word_embed_proj_dim"};
  const Dim table{fields.size({"max_position_embeddings"}) + kPositionOffset, "max_position_embeddings"};

  ModelDescription model;
  model.num_layers = fields.layers({"num_hidden_layers"});
  model.num_heads = model.num_kv_heads = fields.heads({"num_attention_heads"});
  model.head_dim = fields.divided_head_dim(hidden.size, model.num_heads);
  model.hidden_size = hidden.size;
  model.vocab_size = vocab.size;
  model.intermediate_size = inner.size;
  model.max_positions = table.size - kPositionOffset;
  model.positions_are_limited = true;
  model.position_encoding = "learned";
  const bool pre_norm = fields.flag("do_layer_norm_before", true);
  model.norm_placement = pre_norm ? "pre" : "post";
  model.block.norm = {NormKind::layer_norm, 1e-5, 0.0};  // torch's default: OPT has no field for it
  model.block.activation = fields.activation({"activation_function"}, "relu");
  model.block.norm_after_residual = !pre_norm;
  const bool removed_final_norm = fields.flag("_remove_final_layer_norm", false);
  const Bias bias = fields.flag("enable_bias", true) ? Bias::yes : Bias::no;
  const bool affine = fields.flag("layer_norm_elementwise_affine", true);
  const bool tied = fields.tied(true);

  const SourceNames names(store, {"model.decoder.", "decoder.", ""}, "embed_tokens.weight");
  AttentionSpec attention;
  attention.score_scale = 1.0 / std::sqrt(static_cast<double>(model.head_dim));
  model.attention.assign(static_cast<std::size_t>(model.num_layers), attention);
  for (std::int64_t i = 0; i < model.num_layers; ++i) {
    const std::string base = "layers." + std::to_string(i) + ".";
    LayerSources layer = fairseq_layer(names, base, hidden, inner, bias);
    if (!affine) layer.attention_input_norm = layer.mlp_input_norm = NormSource{};
    model.layers.push_back(layer);
  }
  model.embedding.token = names.matrix("embed_tokens.weight", vocab, word);
  model.embedding.position = names.matrix("embed_positions.weight", table, hidden);
  model.embedding.position_offset = kPositionOffset;
  if (word.size != hidden.size) {
    model.embedding.project_in = names.linear("project_in", hidden, word, Bias::no);
    model.embedding.project_out = names.linear("project_out", word, hidden, Bias::no);
  }
  if (pre_norm && !removed_final_norm)
    model.embedding.final_norm = affine ? names.norm("final_layer_norm", hidden, Bias::yes) : NormSource{};
  names.unembedding(model.embedding, {"lm_head.weight"}, tied, vocab, word);
  return model;
}

FamilyClass class_of_opt() { return {"OPTForCausalLM"}; }

}  // namespace spectrace
