#pragma once

#include <optional>

#include "spectrace/checkpoint/tensor_store.hpp"
#include "spectrace/model/description.hpp"
#include "spectrace/numerics/device.hpp"

namespace spectrace {

struct Norm {
  std::optional<Tensor> weight;  // [hidden], [head_dim] or [heads, head_dim]
  std::optional<Tensor> bias;    // like weight
};

struct Linear {
  Tensor weight;               // [out, in]; may be a transposed view of what is stored (GPT-2)
  std::optional<Tensor> bias;  // [out]
};

/// One layer, canonical, in the compute type. Slices of heads are views: W_V[h] = w_v.weight.narrow(0, g(h) * d, d).
struct LayerWeights {
  Linear w_q;  // [num_heads * head_dim, hidden_size]
  Linear w_k;  // [num_kv_heads * head_dim, hidden_size]
  Linear w_v;  // [num_kv_heads * head_dim, hidden_size]
  Linear w_o;  // [hidden_size, num_heads * head_dim]
  std::optional<Norm> query_norm, key_norm;
  std::optional<Norm> attention_input_norm, attention_output_norm, mlp_input_norm, mlp_output_norm;
  std::optional<Linear> mlp_gate;  // [intermediate, hidden_size]
  Linear mlp_up;                   // [intermediate, hidden_size]
  Linear mlp_down;                 // [hidden_size, intermediate]
};

/// The four attention matrices alone, without the rest of the layer (weight spectra on a rank that runs no prompts).
struct AttentionWeights {
  Tensor w_q, w_k, w_v, w_o;  // as in LayerWeights
};

/// Reads one layer. @throws InputError (model or io) naming the tensor.
/// `read_already`: the layer's attention matrices in float64, to be converted instead of read once more.
/// `widening`: later, and what is stored in less than the compute type stays so, until `on_device` or `widened`.
LayerWeights read_layer(const ModelDescription& model, const TensorStore& store, std::int64_t layer, ComputeType type,
                        const AttentionWeights* read_already = nullptr, Widening widening = Widening::here);
AttentionWeights read_attention_weights(const ModelDescription& model, const TensorStore& store, std::int64_t layer,
                                        ComputeType type);
/// A layer that was read, on a device and in the compute type; itself where it is there and has it. Each stored tensor
/// goes once, as it was read.
LayerWeights on_device(const LayerWeights& host, const Device& device, ComputeType type);
/// Of a layer that is read already: no copies.
AttentionWeights attention_weights(const LayerWeights& layer);
/// In the compute type, on the host.
AttentionWeights widened(const AttentionWeights& read, ComputeType type);

/// Bytes of one layer in the compute type.
std::int64_t layer_size_bytes(const ModelDescription& model, std::int64_t layer, ComputeType type);

}  // namespace spectrace
