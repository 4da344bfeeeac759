#pragma once

#include <array>
#include <exception>
#include <map>
#include <optional>

#include "spectrace/checkpoint/tensor_store.hpp"
#include "spectrace/model/description.hpp"
#include "spectrace/model/layer_parts.hpp"
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

/// XieluSource's, each of one element.
struct Xielu {
  Tensor alpha_p, alpha_n, beta, eps;
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
  std::optional<Xielu> xielu;
};

/// Matrices of one layer by what they do, as far as they were asked for: what weight analyses see.
class LayerMatrices {
 public:
  void set(MatrixRole role, Tensor matrix) { matrices_[static_cast<std::size_t>(role)] = std::move(matrix); }
  bool has(MatrixRole role) const { return matrices_[static_cast<std::size_t>(role)].defined(); }
  /// (out, in), as in LayerWeights. @pre it is there.
  const Tensor& at(MatrixRole role) const;

 private:
  std::array<Tensor, kNumMatrixRoles> matrices_;  // undefined: not there
};

/// Reads one layer. @throws InputError (model or io) naming the tensor.
/// `wide`: matrices of the layer that were read in a wider type already, to be converted instead of read once more.
/// `widening`: later, and what is stored in less than the compute type stays so, until `on_device` or `widened`.
LayerWeights read_layer(const ModelDescription& model, const TensorStore& store, std::int64_t layer, ComputeType type,
                        const LayerMatrices* wide = nullptr, Widening widening = Widening::here);

/// Some matrices of a layer, each there or why it is not: who needs one alone fails of this one alone.
struct ReadMatrices {
  LayerMatrices matrices;
  std::map<MatrixRole, std::exception_ptr> errors;
};
/// @pre the layer has matrices of these roles.
ReadMatrices read_matrices(const ModelDescription& model, const TensorStore& store, std::int64_t layer,
                           const MatrixRoles& roles, ComputeType type);

/// A layer that was read, on a device and in the compute type; itself where it is there and has it. Each stored tensor
/// goes once, as it was read.
LayerWeights on_device(const LayerWeights& host, const Device& device, ComputeType type);
/// Of a layer that is read already, those of the roles that it has: no copies.
LayerMatrices matrices_of(const LayerWeights& layer, const MatrixRoles& roles);
/// In the compute type, on the host.
LayerMatrices widened(const LayerMatrices& read, ComputeType type);

/// Bytes of one layer in the compute type.
std::int64_t layer_size_bytes(const ModelDescription& model, std::int64_t layer, ComputeType type);

}  // namespace spectrace
