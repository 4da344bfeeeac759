#include <cmath>

#include "../config_fields.hpp"
#include "../parts/fairseq_like.hpp"

namespace spectrace {

/// XGLM (Lin et al. 2021, arXiv:2112.10668): sinusoidal positions that no tensor holds, from row 2 on, and scaled
/// embeddings.
ModelDescription describe_xglm(ConfigFields& fields, const TensorStore& store) {
  constexpr std::int64_t kPositionOffset = 2, kFewestDimensions = 4;
  const Dim hidden{fields.size({"d_model", "hidden_size"}), "d_model"};
  const Dim vocab{fields.size({"vocab_size"}), "vocab_size"};
  const Dim inner{fields.size({"ffn_dim"}), "ffn_dim"};

  ModelDescription model;
  model.num_layers = fields.layers({"num_layers", "num_hidden_layers"});
  model.num_heads = model.num_kv_heads = fields.heads({"attention_heads", "num_attention_heads"});
  model.head_dim = fields.divided_head_dim(hidden.size, model.num_heads);
  model.hidden_size = hidden.size;
  model.vocab_size = vocab.size;
  model.intermediate_size = inner.size;
  model.max_positions = fields.count_or({"max_position_embeddings"}, 2048);
  model.norm_placement = "pre";
  model.position_encoding = "sinusoidal";
  model.block.norm = {NormKind::layer_norm, 1e-5, 0.0};  // torch's default: XGLM has no field for it
  model.block.activation = fields.activation({"activation_function"}, "gelu");
  if (hidden.size < kFewestDimensions)
    throw fields.json().error("d_model is " + std::to_string(hidden.size) + ", expected at least 4",
                              "fewer dimensions have no sinusoidal positions");
  SinusoidalPositions positions{.offset = kPositionOffset, .zero_row = 1};  // absent is 1, a row of no token
  if (fields.is_null("pad_token_id")) positions.zero_row.reset();
  if (const auto padding = fields.find("pad_token_id")) {
    positions.zero_row = padding->as_int();
    if (*positions.zero_row < 0) throw padding->error("is " + padding->json().dump() + ", expected a token or null");
  }
  const bool scaled = fields.flag("scale_embedding", true);
  fields.refuse_if_set("add_cross_attention", "a decoder of an encoder-decoder");
  const bool tied = fields.tied(true);

  AttentionSpec attention;
  attention.score_scale = 1.0 / std::sqrt(static_cast<double>(model.head_dim));
  model.attention.assign(static_cast<std::size_t>(model.num_layers), attention);
  const SourceNames names(store, {"model.", ""}, "embed_tokens.weight");
  for (std::int64_t i = 0; i < model.num_layers; ++i)
    model.layers.push_back(fairseq_layer(names, "layers." + std::to_string(i) + ".", hidden, inner, Bias::yes));
  model.embedding.token = names.matrix("embed_tokens.weight", vocab, hidden);
  model.embedding.sinusoidal = positions;
  if (scaled) model.embedding.scale = std::sqrt(static_cast<double>(hidden.size));
  model.embedding.final_norm = names.norm("layer_norm", hidden, Bias::yes);
  names.unembedding(model.embedding, {"lm_head.weight"}, tied, vocab, hidden);
  return model;
}

FamilyClass class_of_xglm() { return {"XGLMForCausalLM"}; }

}  // namespace spectrace
