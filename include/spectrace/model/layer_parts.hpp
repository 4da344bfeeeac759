#pragma once

#include <optional>

#include "spectrace/model/description.hpp"
#include "spectrace/model/matrix_role.hpp"

namespace spectrace {

namespace layer_parts {
template <typename T>
const T& value_of(const std::optional<T>& part) {
  return *part;
}
template <typename T>
T& value_of(std::optional<T>& part) {
  return part ? *part : part.emplace();
}
}  // namespace layer_parts

/// The one place that knows what a layer is made of, for whoever treats all of it alike: reading, moving to a device,
/// counting, naming tensors. Visits every matrix that `from` has, visit_linear(role, from's, to's), and everything
/// small that a layer may have, visit_small(from's, to's): attention's matrices, norms, the MLP's matrices, the
/// activation's numbers. The layers are LayerSources or LayerWeights; a matrix is a LinearSource or a Linear; what is
/// small is optional, a NormSource or Norm, an XieluSource or Xielu. Latent attention and experts, of which no forward
/// pass is known, are no such parts.
template <typename From, typename To, typename VisitLinear, typename VisitSmall>
void for_each_part(const From& from, To& to, VisitLinear&& visit_linear, VisitSmall&& visit_small) {
  visit_linear(MatrixRole::w_q, from.w_q, to.w_q);
  visit_linear(MatrixRole::w_k, from.w_k, to.w_k);
  visit_linear(MatrixRole::w_v, from.w_v, to.w_v);
  visit_linear(MatrixRole::w_o, from.w_o, to.w_o);
  visit_small(from.query_norm, to.query_norm);
  visit_small(from.key_norm, to.key_norm);
  visit_small(from.attention_input_norm, to.attention_input_norm);
  visit_small(from.attention_output_norm, to.attention_output_norm);
  visit_small(from.mlp_input_norm, to.mlp_input_norm);
  visit_small(from.mlp_output_norm, to.mlp_output_norm);
  if (from.mlp_gate) visit_linear(MatrixRole::w_gate, *from.mlp_gate, layer_parts::value_of(to.mlp_gate));
  visit_linear(MatrixRole::w_up, from.mlp_up, to.mlp_up);
  visit_linear(MatrixRole::w_down, from.mlp_down, to.mlp_down);
  visit_small(from.xielu, to.xielu);
}

/// The same of one layer: visit_linear(role, matrix), visit_small(part).
template <typename Layer, typename VisitLinear, typename VisitSmall>
void for_each_part(const Layer& layer, VisitLinear&& visit_linear, VisitSmall&& visit_small) {
  for_each_part(
      layer, layer, [&](MatrixRole role, const auto& matrix, const auto&) { visit_linear(role, matrix); },
      [&](const auto& part, const auto&) { visit_small(part); });
}

/// Whether a tensor of the checkpoint holds it.
bool has_matrix(const LayerSources& layer, MatrixRole role);
/// @pre has_matrix
const LinearSource& source_of(const LayerSources& layer, MatrixRole role);

/// Numbers of a tensor, and of a layer.
std::int64_t num_elements(const TensorSource& source);
std::int64_t num_elements(const LayerSources& layer);
/// Roles of which any layer has a matrix, or one layer.
MatrixRoles roles_in(const ModelDescription& model, const MatrixRoles& roles);
MatrixRoles roles_in(const LayerSources& layer, const MatrixRoles& roles);
/// Of a hybrid.
std::vector<std::int64_t> layers_without_attention(const ModelDescription& model);
/// Whether one of the layer's matrices, experts' aside, is stored in more than float32 holds: then spectra read them
/// all as float64.
bool exceeds_float32(const ModelDescription& model, std::int64_t layer);
/// The first matrix of its layers: what a model's weights are stored as. Null if no layer has one.
const TensorSource* first_matrix(const ModelDescription& model);
/// The most that a layer of the model has in its matrices of these roles, biases aside.
std::int64_t most_matrix_elements(const ModelDescription& model, const MatrixRoles& roles);

}  // namespace spectrace
