#include "../parts/glm_like.hpp"

namespace spectrace {

/// GLM-4-0414: GLM with norms on what attention and MLP add, too.
ModelDescription describe_glm4(ConfigFields& fields, const TensorStore& store) {
  LlamaLike llama = describe_glm_like(fields, store);
  llama.model.norm_placement = "pre+post";
  const SourceNames names = llama_names(store);
  for (std::int64_t i = 0; i < llama.model.num_layers; ++i) {
    const std::string base = "layers." + std::to_string(i) + ".";
    LayerSources& layer = llama.model.layers[static_cast<std::size_t>(i)];
    layer.attention_output_norm = names.norm(base + "post_self_attn_layernorm", llama.hidden, Bias::no);
    layer.mlp_output_norm = names.norm(base + "post_mlp_layernorm", llama.hidden, Bias::no);
  }
  return llama.model;
}

FamilyClass class_of_glm4() { return {"Glm4ForCausalLM"}; }

}  // namespace spectrace
