#pragma once

#include <string>

#include "../config_fields.hpp"
#include "../rope.hpp"
#include "../sources.hpp"

namespace spectrace {

/// What Llama and its many relatives share: sizes, tensor names, a gated MLP, rotary positions.
struct LlamaLike {
  ModelDescription model;                   ///< sizes filled in; the rest is the family's
  Dim hidden, vocab, inner, queries, keys;  ///< queries: H d, keys: K d
};

/// What a family's config class puts in the place of absent fields. 0: from the other fields (H, D / H), as where the
/// field is null; of the first five, that the field must be there.
struct LlamaDefaults {
  std::int64_t hidden_size = 0, intermediate_size = 0, vocab_size = 0, num_layers = 0, num_heads = 0;
  std::int64_t num_kv_heads = 0;
  std::int64_t head_dim = 0;
  const char* activation_field = "hidden_act";
  const char* activation = "silu";
  bool has_xielu = false;  ///< whether the activation may be xIELU, which brings tensors
  NormKind norm = NormKind::rms_norm;
  const char* epsilon_field = "rms_norm_eps";  ///< null: there is none (OLMo 1)
  double epsilon = 1e-6;
  double norm_weight_offset = 0.0;
  std::int64_t max_positions = 2048;
  bool gated_mlp = true;  ///< down(act(gate(x)) * up(x)), not down(act(up(x)))
};

struct LlamaBiases {
  Bias qkv = Bias::no, output = Bias::no, mlp = Bias::no, norm = Bias::no;
};

LlamaLike read_llama_like(ConfigFields& fields, const LlamaDefaults& defaults);

/// 1 / sqrt(head_dim), rotary if given; for every layer.
void set_attention(LlamaLike& llama, const RopeReading& rope);
/// The window for the layers marked (all, if there are no marks).
void set_sliding_window(LlamaLike& llama, std::int64_t window, const std::optional<std::vector<bool>>& sliding);
/// Marks all layers but the n-th, the 2n-th, …
std::vector<bool> sliding_but_every(std::int64_t nth, std::int64_t num_layers);

/// "layers.7."
std::string layer_base(std::int64_t layer);

SourceNames llama_names(const TensorStore& store);

/// q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj, input_layernorm, post_attention_layernorm.
LayerSources llama_layer(const LlamaLike& llama, const SourceNames& names, std::int64_t layer,
                         const LlamaBiases& biases);
/// [gate; up] in one matrix of that name, in the place of llama_layer's two.
void set_fused_gate_up(const LlamaLike& llama, const SourceNames& names, LayerSources& layer, const std::string& fused);
/// The same with norms on the outputs of attention and MLP in the place of those on their inputs (OLMo-2, EXAONE 4).
LayerSources output_norms_layer(const LlamaLike& llama, const SourceNames& names, std::int64_t layer,
                                const LlamaBiases& biases);
/// Norms over each head's query and key, by their names.
void set_head_norms(LayerSources& layer, const LlamaLike& llama, const SourceNames& names, const std::string& query,
                    const std::string& key);
/// attention_bias, of q, k, v and the output; absent: none.
LlamaBiases read_attention_biases(ConfigFields& fields);
/// The model of a family whose layers are llama_layer's.
ModelDescription with_llama_layers(LlamaLike llama, const TensorStore& store, const LlamaBiases& biases, bool tied);
void set_llama_embedding(LlamaLike& llama, const SourceNames& names, bool tied, Bias norm_bias = Bias::no);

}  // namespace spectrace
