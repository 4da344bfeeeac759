// Spectra of the four attention matrices of every layer (docs/quantities.md, section 1).
#include "../matrix_spectra.hpp"
#include "spectrace/core/floats.hpp"

namespace spectrace {
namespace weights {
namespace {

/// Mean over layers of the spectral norm of the matrices of a role.
template <MatrixRole kRole>
double mean_spectral_norm(const ResultNumbers& results, const std::string& /*set*/) {
  const std::vector<double>* norms = results.numbers("/weights", spectral::kSpectralNorm);
  if (norms == nullptr || norms->empty()) return kNaN;
  double sum = 0;
  std::size_t count = 0;
  for (std::size_t i = static_cast<std::size_t>(kRole); i < norms->size(); i += kAttentionRoles.size(), ++count)
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

  MatrixRoles needs(const ModelDescription&) const override { return attention_roles(); }
};

}  // namespace
}  // namespace weights

const Analysis& weights_analysis() {
  static const weights::Weights analysis;
  return analysis;
}

}  // namespace spectrace
