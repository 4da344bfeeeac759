// Spectra of the four attention matrices of every layer (docs/quantities.md, section 1).
#include <algorithm>

#include "../matrix_spectra.hpp"
#include "spectrace/core/floats.hpp"
#include "spectrace/model/layer_parts.hpp"

namespace spectrace {
namespace weights {
namespace {

/// Mean over layers of the spectral norm of the matrices of a role.
template <MatrixRole kRole>
double mean_spectral_norm(const ResultNumbers& results, const std::string& /*set*/) {
  const std::vector<double>* norms = results.numbers("/weights", spectral::kSpectralNorm);
  const std::vector<std::string>* matrices = results.names("/weights", "matrix");
  if (norms == nullptr || norms->empty() || matrices == nullptr) return kNaN;
  const auto place = std::find(matrices->begin(), matrices->end(), info(kRole).name);
  if (place == matrices->end()) return kNaN;  // latent attention has others
  double sum = 0;
  std::size_t count = 0;
  for (auto i = static_cast<std::size_t>(place - matrices->begin()); i < norms->size(); i += matrices->size(), ++count)
    sum += (*norms)[i];
  return sum / static_cast<double>(count);
}

AnalysisInfo weights_info() {
  return {
      .name = "weights",
      .meaning = "Spectra and norms of W_Q, W_K, W_V and W_O of every layer.",
      .place = 10,
      .numerics_version = 2,
      .group = "/weights",
      .quantities = matrix_quantities({"layer", "matrix"}),
      .dimensions = {{"matrix", "Attention matrix"}},
      .summary = {{.name = "w_v_spectral_norm_mean",
                   .meaning = "Mean over layers of the spectral norm of W_V",
                   .place = 50,
                   .heading = "|W_V|",
                   .legend = "largest singular value, mean over layers",
                   .value = mean_spectral_norm<MatrixRole::w_v>},
                  {.name = "w_o_spectral_norm_mean",
                   .meaning = "Mean over layers of the spectral norm of W_O",
                   .place = 51,
                   .heading = "|W_O|",
                   .legend = "the same of W_O",
                   .value = mean_spectral_norm<MatrixRole::w_o>}},
  };
}

class Weights final : public MatrixSpectra {
 public:
  Weights() : MatrixSpectra(weights_info()) {}

  MatrixRoles needs(const ModelDescription& model) const override { return roles_in(model, all_attention_roles()); }

 private:
  std::string find_lack(const ModelDescription& model) const override {
    return needs(model).empty() ? "no layer has attention" : "";
  }
};

}  // namespace
}  // namespace weights

const Analysis& weights_analysis() {
  static const weights::Weights analysis;
  return analysis;
}

}  // namespace spectrace
