// Spectra of the matrices of every layer's MLP (docs/quantities.md).
#include "../matrix_spectra.hpp"
#include "spectrace/model/layer_parts.hpp"

namespace spectrace {
namespace mlp {
namespace {

/// All layers of a model have the same block, so those of one say it.
MatrixRoles roles_of(const ModelDescription& model) {
  MatrixRoles roles;
  for (const MatrixRole role : {MatrixRole::w_gate, MatrixRole::w_up, MatrixRole::w_down})
    if (has_matrix(model.layers.front(), role)) roles.push_back(role);
  return roles;
}

AnalysisInfo mlp_info() {
  return {
      .name = "mlp",
      .meaning = "Spectra and norms of W_gate, W_up and W_down of every layer.",
      .place = 27,
      .is_default = false,
      .matrices_name = "MLP matrices",
      .group = "/mlp",
      .quantities = matrix_quantities(),
      .dimensions = {{"matrix", "Matrix of the MLP; W_gate of gated ones only"}},
      .ignores_slicing = "it is heads that the notebooks cut otherwise, and an MLP has none",
  };
}

class Mlp final : public LayerAnalysis {
 public:
  Mlp() : LayerAnalysis(mlp_info()) {}

  std::vector<DimensionValues> dimensions(const Circumstances& of) const override {
    return {matrix_dimension(roles_of(of.model), info().dimensions.front().meaning),
            {{"index"}, counted(index_size(shapes_of(of.model, roles_of(of.model))))}};
  }
  std::string lacks(const ModelDescription& model) const override {
    return roles_of(model).empty() ? "its blocks have no MLP" : "";
  }
  MatrixRoles needs(const ModelDescription& model) const override { return roles_of(model); }
  double flops(const ModelDescription& model) const override {
    return spectra_flops(shapes_of(model, roles_of(model)));
  }
  std::int64_t workspace_bytes(const ModelDescription& model, std::int64_t num_layers) const override {
    return spectra_workspace_bytes(shapes_of(model, roles_of(model)), num_layers);
  }
  Record measure(const LayerView& layer) const override {
    return measure_matrices(layer.matrices, roles_of(layer.model));
  }
};

}  // namespace
}  // namespace mlp

const Analysis& mlp_analysis() {
  static const mlp::Mlp analysis;
  return analysis;
}

}  // namespace spectrace
