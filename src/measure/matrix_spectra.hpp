#pragma once

#include <string>
#include <vector>

#include "spectrace/measure/analysis.hpp"
#include "spectrace/numerics/numerical_error.hpp"
#include "spectrace/numerics/singular_values.hpp"
#include "spectrace/numerics/spectral_summary.hpp"

namespace spectrace {

/// Names of what every spectrum comes to, wherever it is stored. More than one analysis declares them.
namespace spectral {
inline constexpr const char *kSingularValues = "singular_values", *kNumSingularValues = "num_singular_values",
                            *kSingularValueError = "singular_value_error", *kSpectralNorm = "spectral_norm",
                            *kFrobeniusNorm = "frobenius_norm", *kEffectiveRank = "effective_rank",
                            *kStableRank = "stable_rank", *kConditionNumber = "condition_number",
                            *kNumericalRank = "numerical_rank", *kEntryMean = "entry_mean", *kEntryStd = "entry_std";
}  // namespace spectral

/// The dimension `matrix` of these roles.
DimensionValues matrix_dimension(const MatrixRoles& roles, const std::string& meaning);

/// Spectra and norms of all matrices of a layer that it needs. Its record: singular_values [matrices, index], the
/// others [matrices]. index = most singular values that any of the matrices has.
class MatrixSpectra : public LayerAnalysis {
 public:
  using LayerAnalysis::LayerAnalysis;

  std::vector<DimensionValues> dimensions(const Circumstances& of) const override;
  double flops(const ModelDescription& model) const override;
  std::int64_t workspace_bytes(const ModelDescription& model, std::int64_t num_layers) const override;
  /// @throws NumericalError naming the matrix.
  Record measure(const LayerView& layer) const override;
};
/// What is declared of every matrix whose spectrum is taken, each of these dimensions, its singular values also
/// `index`.
std::vector<Quantity> matrix_quantities(const std::vector<std::string>& dims);

/// Says of which matrix it is what a solver throws.
template <typename Solve>
auto of_matrix(const std::string& matrix, const Solve& solve) {
  try {
    return solve();
  } catch (const NumericalError& error) {
    throw NumericalError(matrix + ": " + error.what());
  }
}

/// Puts numbers of a record's arrays into their slots.
void make_arrays(Record& record, std::initializer_list<const char*> names, const std::vector<std::int64_t>& shape);
void store_values(Record& record, const char* name, std::size_t slot, const std::vector<double>& values);
/// Spectral norm to condition number.
void store_summary(Record& record, std::size_t slot, const SpectralSummary& summary);

struct MatrixShape {
  std::int64_t rows = 0, columns = 0;
};
/// What matrix_quantities declares, NaN: singular_values [shape..., num_values], the others [shape].
void make_spectrum_arrays(Record& record, std::vector<std::int64_t> shape, std::int64_t num_values);
/// All of them of one matrix.
void store_spectrum(Record& record, std::size_t slot, MatrixShape shape, const SingularValues& singular,
                    const EntryMoments& entries);

/// Rows and columns of the largest matrix of each of these roles that a layer has.
std::vector<MatrixShape> shapes_of(const ModelDescription& model, const MatrixRoles& roles);
/// Peak bytes of their spectra of so many layers side by side, with as many matrices under work as there are threads.
std::int64_t spectra_workspace_bytes(const std::vector<MatrixShape>& shapes, std::int64_t num_layers);
}  // namespace spectrace
