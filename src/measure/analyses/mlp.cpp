// Spectra of the matrices of every layer's MLP (docs/quantities.md).
#include "../matrix_spectra.hpp"
#include "spectrace/model/layer_parts.hpp"

namespace spectrace {
namespace mlp {
namespace {

AnalysisInfo mlp_info() {
  return {
      .name = "mlp",
      .meaning = "Spectra and norms of W_gate, W_up and W_down of every layer.",
      .place = 27,
      .numerics_version = 2,
      .is_default = false,
      .matrices_name = "MLP matrices",
      .group = "/mlp",
      .quantities = matrix_quantities({"layer", "matrix"}),
      .dimensions = {{"matrix", "Matrix of the MLP; W_gate of gated ones only"}},
      .ignores_slicing = "it is heads that the notebooks cut otherwise, and an MLP has none",
  };
}

class Mlp final : public MatrixSpectra {
 public:
  Mlp() : MatrixSpectra(mlp_info()) {}

  /// All layers of a model have the same block, so those of one say it.
  MatrixRoles needs(const ModelDescription& model) const override {
    MatrixRoles roles;
    for (const MatrixRole role : {MatrixRole::w_gate, MatrixRole::w_up, MatrixRole::w_down})
      if (has_matrix(model.layers.front(), role)) roles.push_back(role);
    return roles;
  }

 private:
  std::string find_lack(const ModelDescription& model) const override {
    return needs(model).empty() ? "its blocks have no MLP" : "";
  }
};

}  // namespace
}  // namespace mlp

const Analysis& mlp_analysis() {
  static const mlp::Mlp analysis;
  return analysis;
}

}  // namespace spectrace
