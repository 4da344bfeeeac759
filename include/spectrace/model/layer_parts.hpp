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
/// counting, naming tensors. Visits every matrix that `from` has, visit_linear(role, from's, to's), and every norm that
/// a layer may have, visit_norm(from's, to's): attention's matrices, norms, the MLP's matrices. The layers are
/// LayerSources or LayerWeights; a matrix is a LinearSource or a Linear, a norm an optional NormSource or Norm.
template <typename From, typename To, typename VisitLinear, typename VisitNorm>
void for_each_part(const From& from, To& to, VisitLinear&& visit_linear, VisitNorm&& visit_norm) {
  visit_linear(MatrixRole::w_q, from.w_q, to.w_q);
  visit_linear(MatrixRole::w_k, from.w_k, to.w_k);
  visit_linear(MatrixRole::w_v, from.w_v, to.w_v);
  visit_linear(MatrixRole::w_o, from.w_o, to.w_o);
  visit_norm(from.query_norm, to.query_norm);
  visit_norm(from.key_norm, to.key_norm);
  visit_norm(from.attention_input_norm, to.attention_input_norm);
  visit_norm(from.attention_output_norm, to.attention_output_norm);
  visit_norm(from.mlp_input_norm, to.mlp_input_norm);
  visit_norm(from.mlp_output_norm, to.mlp_output_norm);
  if (from.mlp_gate) visit_linear(MatrixRole::w_gate, *from.mlp_gate, layer_parts::value_of(to.mlp_gate));
  visit_linear(MatrixRole::w_up, from.mlp_up, to.mlp_up);
  visit_linear(MatrixRole::w_down, from.mlp_down, to.mlp_down);
}

/// The same of one layer: visit_linear(role, matrix), visit_norm(norm).
template <typename Layer, typename VisitLinear, typename VisitNorm>
void for_each_part(const Layer& layer, VisitLinear&& visit_linear, VisitNorm&& visit_norm) {
  for_each_part(
      layer, layer, [&](MatrixRole role, const auto& matrix, const auto&) { visit_linear(role, matrix); },
      [&](const auto& norm, const auto&) { visit_norm(norm); });
}

/// Whether a tensor of the checkpoint holds it.
bool has_matrix(const LayerSources& layer, MatrixRole role);
/// @pre has_matrix
const LinearSource& source_of(const LayerSources& layer, MatrixRole role);

/// Numbers of a tensor, and of a layer.
std::int64_t num_elements(const TensorSource& source);
std::int64_t num_elements(const LayerSources& layer);
/// The most that a layer of the model has in its matrices of these roles, biases aside.
std::int64_t most_matrix_elements(const ModelDescription& model, const MatrixRoles& roles);

}  // namespace spectrace
