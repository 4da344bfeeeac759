#include <cmath>

#include "../config_fields.hpp"
#include "../parts/fairseq_like.hpp"

namespace spectrace {

/// BioGPT (Luo et al. 2022, arXiv:2210.10341): learned positions from row 2 on, and scaled embeddings.
ModelDescription describe_biogpt(ConfigFields& fields, const TensorStore& store) {
  constexpr std::int64_t kPositionOffset = 2;
  const Dim hidden{fields.size({"hidden_size"}), "hidden_size"};
  const Dim vocab{fields.size({"vocab_size"}), "vocab_size"};
  const Dim inner{fields.size({"intermediate_size"}), "intermediate_size"};
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
  model.norm_placement = "pre";
  model.position_encoding = "learned";
  model.block.norm = {NormKind::layer_norm, 1e-5, 0.0};  // torch's default: the field layer_norm_eps is not used
  model.block.activation = fields.activation({"hidden_act"}, "gelu");
  const bool scaled = fields.flag("scale_embedding", true);
  const bool tied = fields.tied(true);

  AttentionSpec attention;
  attention.score_scale = 1.0 / std::sqrt(static_cast<double>(model.head_dim));
  model.attention.assign(static_cast<std::size_t>(model.num_layers), attention);
  const SourceNames names(store, {"biogpt.", ""}, "embed_tokens.weight");
  for (std::int64_t i = 0; i < model.num_layers; ++i)
    model.layers.push_back(fairseq_layer(names, "layers." + std::to_string(i) + ".", hidden, inner, Bias::yes));
  model.embedding.token = names.matrix("embed_tokens.weight", vocab, hidden);
  model.embedding.position = names.matrix("embed_positions.weight", table, hidden);
  model.embedding.position_offset = kPositionOffset;
  if (scaled) model.embedding.scale = std::sqrt(static_cast<double>(hidden.size));
  model.embedding.final_norm = names.norm("layer_norm", hidden, Bias::yes);
  names.unembedding(model.embedding, {"output_projection.weight"}, tied, vocab, hidden);
  return model;
}

FamilyClass class_of_biogpt() { return {"BioGptForCausalLM"}; }

}  // namespace spectrace
