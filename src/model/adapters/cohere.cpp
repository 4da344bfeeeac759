#include "../parts/cohere_like.hpp"

namespace spectrace {
namespace {

/// A norm of each head's own.
NormSource norm_per_head(const SourceNames& names, const std::string& base, const Dim& heads, const Dim& head) {
  NormSource norm;
  norm.weight = names.matrix(base + ".weight", heads, head);
  return norm;
}

}  // namespace

/// Cohere's Command R (2024); in R+ with a norm for each head's queries and keys.
ModelDescription describe_cohere(ConfigFields& fields, const TensorStore& store) {
  LlamaLike llama = read_cohere_like(fields, 500000.0);
  ModelDescription& model = llama.model;
  const Bias bias = fields.flag("attention_bias", false) ? Bias::yes : Bias::no;
  const bool has_norms_per_head = fields.flag("use_qk_norm", false);
  const bool tied = fields.tied(true);

  const SourceNames names = llama_names(store);
  const Dim heads{model.num_heads, "num_attention_heads"}, kv_heads{model.num_kv_heads, "num_key_value_heads"};
  const Dim head{model.head_dim, "head_dim"};
  for (std::int64_t i = 0; i < model.num_layers; ++i) {
    const std::string base = "layers." + std::to_string(i) + ".self_attn.";
    LayerSources layer = cohere_layer(llama, names, i, bias);
    if (has_norms_per_head) {
      layer.query_norm = norm_per_head(names, base + "q_norm", heads, head);
      layer.key_norm = norm_per_head(names, base + "k_norm", kv_heads, head);
    }
    model.layers.push_back(layer);
  }
  set_llama_embedding(llama, names, tied);
  return llama.model;
}

FamilyClass class_of_cohere() { return {"CohereForCausalLM"}; }

}  // namespace spectrace
