#include "../parts/llama_like.hpp"

namespace spectrace {

/// Phi-3 (2024, arXiv:2404.14219): Llama with q, k, v in one matrix and gate, up in another; longrope in the long
/// models.
ModelDescription describe_phi3(ConfigFields& fields, const TensorStore& store) {
  LlamaLike llama = read_llama_like(fields, {.epsilon = 1e-5, .max_positions = 4096});
  const ModelDescription& model = llama.model;
  const RopeFields rope_fields{.partial = "partial_rotary_factor", .default_original_positions = 4096};
  set_attention(llama, read_rope(fields, rope_fields, model.head_dim, model.max_positions));
  const auto window = fields.window("sliding_window", std::nullopt);
  if (window) set_sliding_window(llama, *window, std::nullopt);
  const bool tied = fields.tied(false);

  const SourceNames names = llama_names(store);
  const FusedRows rows = fused_blocks(model.num_heads, model.num_kv_heads, model.head_dim);
  for (std::int64_t i = 0; i < model.num_layers; ++i) {
    const std::string base = "layers." + std::to_string(i) + ".";
    LayerSources layer = llama_layer(llama, names, i, {});
    names.fused_qkv(layer, base + "self_attn.qkv_proj", llama.queries + 2 * llama.keys, llama.hidden, Bias::no, rows);
    set_fused_gate_up(llama, names, layer, base + "mlp.gate_up_proj");
    llama.model.layers.push_back(layer);
  }
  set_llama_embedding(llama, names, tied);
  return llama.model;
}

FamilyClass class_of_phi3() { return {"Phi3ForCausalLM"}; }

}  // namespace spectrace
