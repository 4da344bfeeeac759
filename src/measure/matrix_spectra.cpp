#include "matrix_spectra.hpp"

#include <algorithm>

#include "spectrace/core/parallel.hpp"
#include "spectrace/model/layer_parts.hpp"

namespace spectrace {
namespace {

/// The most singular values that one of them has.
std::int64_t index_size(const std::vector<MatrixShape>& shapes) {
  std::int64_t most = 0;
  for (const MatrixShape& shape : shapes) most = std::max(most, std::min(shape.rows, shape.columns));
  return most;
}

}  // namespace

DimensionValues matrix_dimension(const MatrixRoles& roles, const std::string& meaning) {
  std::vector<std::string> names;
  for (const MatrixRole role : roles) names.push_back(info(role).name);
  return {{"matrix", meaning}, std::move(names)};
}

std::vector<Quantity> matrix_quantities(const std::vector<std::string>& matrix) {
  std::vector<std::string> of_values = matrix;
  of_values.emplace_back("index");
  const auto of_matrix_entries = [&](const char* name, const char* meaning, const char* formula) {
    return Quantity{.name = name, .dims = matrix, .meaning = meaning, .formula = formula, .function = "entry_moments"};
  };
  return {
      {.name = spectral::kSingularValues,
       .dims = std::move(of_values),
       .meaning = "Singular values, descending; NaN past the last",
       .formula = "σᵢ, all min(m, n), descending",
       .function = "singular_values"},
      {.name = spectral::kNumSingularValues,
       .dims = matrix,
       .meaning = "Number of singular values, min(rows, columns)",
       .formula = "min(m, n)",
       .function = "singular_values"},
      {.name = spectral::kSingularValueError,
       .dims = matrix,
       .meaning = "Absolute error bound that holds for every singular value",
       .formula = "bound of |computed − exact| for every σᵢ of the matrix",
       .function = "singular_values"},
      {.name = spectral::kSpectralNorm,
       .dims = matrix,
       .meaning = "Largest singular value",
       .formula = "σ₁",
       .function = "summarize_spectrum"},
      of_matrix_entries(spectral::kFrobeniusNorm, "Frobenius norm, from the entries",
                        "‖W‖_F = √Σ Wᵢⱼ², from the entries"),
      {.name = spectral::kEffectiveRank,
       .dims = matrix,
       .meaning = "exp of the entropy of the singular values scaled to sum 1",
       .formula = "exp(−Σ p ln p), p = σ/Σσ",
       .function = "summarize_spectrum",
       .source = "Roy and Vetterli 2007"},
      {.name = spectral::kStableRank,
       .dims = matrix,
       .meaning = "Squared Frobenius norm over squared spectral norm",
       .formula = "‖W‖_F²/σ₁²",
       .function = "summarize_spectrum"},
      {.name = spectral::kConditionNumber,
       .dims = matrix,
       .meaning = "Largest over smallest singular value; inf if the smallest is 0",
       .formula = "σ₁/σ_min; inf if σ_min = 0",
       .function = "summarize_spectrum"},
      {.name = spectral::kNumericalRank,
       .dims = matrix,
       .meaning = "Singular values above the largest times max(rows, columns) times 2^-23",
       .formula = "number of σᵢ > σ₁·max(m, n)·2⁻²³",
       .function = "summarize_spectrum"},
      of_matrix_entries(spectral::kEntryMean, "Mean of the entries", "mean of the entries"),
      of_matrix_entries(spectral::kEntryStd, "Standard deviation of the entries, unbiased",
                        "standard deviation of the entries"),
  };
}

void make_arrays(Record& record, std::initializer_list<const char*> names, const std::vector<std::int64_t>& shape) {
  for (const char* name : names) record.arrays[name] = Array::filled_with_nan(shape);
}

void store_values(Record& record, const char* name, std::size_t slot, const std::vector<double>& values) {
  Array& array = record.arrays.at(name);
  const auto width = static_cast<std::size_t>(array.shape.back());
  std::copy(values.begin(), values.end(), array.values.begin() + static_cast<std::ptrdiff_t>(slot * width));
}

void store_summary(Record& record, std::size_t slot, const SpectralSummary& summary) {
  const auto set = [&](const char* name, double value) { record.arrays.at(name).values.at(slot) = value; };
  set(spectral::kSpectralNorm, summary.spectral_norm);
  set(spectral::kFrobeniusNorm, summary.frobenius_norm);
  set(spectral::kEffectiveRank, summary.effective_rank);
  set(spectral::kStableRank, summary.stable_rank);
  set(spectral::kConditionNumber, summary.condition_number);
}

void make_spectrum_arrays(Record& record, std::vector<std::int64_t> shape, std::int64_t num_values) {
  make_arrays(record,
              {spectral::kNumSingularValues, spectral::kSingularValueError, spectral::kSpectralNorm,
               spectral::kFrobeniusNorm, spectral::kEffectiveRank, spectral::kStableRank, spectral::kConditionNumber,
               spectral::kNumericalRank, spectral::kEntryMean, spectral::kEntryStd},
              shape);
  shape.push_back(num_values);
  make_arrays(record, {spectral::kSingularValues}, shape);
}

void store_spectrum(Record& record, std::size_t slot, MatrixShape shape, const SingularValues& singular,
                    const EntryMoments& entries) {
  const auto summary = summarize_spectrum(singular.values, entries.frobenius_norm, shape.rows, shape.columns);
  const auto set = [&](const char* name, double value) { record.arrays.at(name).values.at(slot) = value; };
  store_values(record, spectral::kSingularValues, slot, singular.values);
  store_summary(record, slot, summary);
  set(spectral::kNumericalRank, summary.numerical_rank);
  set(spectral::kNumSingularValues, static_cast<double>(singular.values.size()));
  set(spectral::kSingularValueError, singular.error_bound);
  set(spectral::kEntryMean, entries.mean);
  set(spectral::kEntryStd, entries.std);
}

std::vector<DimensionValues> MatrixSpectra::dimensions(const Circumstances& of) const {
  const MatrixRoles roles = needs(of.model);
  return {matrix_dimension(roles, info().dimensions.back().meaning),
          {{"index"}, counted(index_size(shapes_of(of.model, roles)))}};
}

double MatrixSpectra::flops(const ModelDescription& model) const {
  double flops = 0;
  for (const MatrixShape& shape : shapes_of(model, needs(model)))
    flops += singular_values_flops(shape.rows, shape.columns);
  return flops;
}

std::int64_t MatrixSpectra::workspace_bytes(const ModelDescription& model, std::int64_t num_layers) const {
  return spectra_workspace_bytes(shapes_of(model, needs(model)), num_layers);
}

Record MatrixSpectra::measure(const LayerView& layer) const {
  const MatrixRoles roles = needs(layer.model);
  const LayerMatrices& matrices = layer.matrices;
  const auto count = static_cast<std::int64_t>(roles.size());
  std::vector<MatrixShape> shapes;  // of those that the layer has not: none
  for (const MatrixRole role : roles)
    shapes.push_back(matrices.has(role) ? MatrixShape{matrices.at(role).size(0), matrices.at(role).size(1)}
                                        : MatrixShape{});
  Record record;
  make_spectrum_arrays(record, {count}, index_size(shapes_of(layer.model, roles)));

  struct Solved {
    SingularValues singular;
    EntryMoments entries;
  };
  std::vector<Solved> solved(roles.size());
  // The largest ones first: the others fill the gaps.
  std::vector<std::size_t> order;
  for (std::size_t i = 0; i < roles.size(); ++i) order.push_back(i);
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return std::min(shapes[a].rows, shapes[a].columns) > std::min(shapes[b].rows, shapes[b].columns);
  });
  parallel_for(count, [&](std::int64_t i) {
    const std::size_t slot = order[static_cast<std::size_t>(i)];
    if (!matrices.has(roles[slot])) return;
    const Tensor& w = matrices.at(roles[slot]);
    solved[slot] = of_matrix(spectrace::info(roles[slot]).name, [&] {
      return Solved{singular_values(w), entry_moments(w)};
    });
  });

  for (std::size_t i = 0; i < solved.size(); ++i)
    if (matrices.has(roles[i])) store_spectrum(record, i, shapes[i], solved[i].singular, solved[i].entries);
  return record;
}

std::vector<MatrixShape> shapes_of(const ModelDescription& model, const MatrixRoles& roles) {
  std::vector<MatrixShape> shapes;
  for (const MatrixRole role : roles) {
    MatrixShape& largest = shapes.emplace_back();
    for (const LayerSources& layer : model.layers) {
      if (!has_matrix(layer, role)) continue;
      const auto shape = source_of(layer, role).weight.canonical_shape();
      if (shape[0] * shape[1] > largest.rows * largest.columns) largest = {shape[0], shape[1]};
    }
  }
  return shapes;
}

std::int64_t spectra_workspace_bytes(const std::vector<MatrixShape>& shapes, std::int64_t num_layers) {
  std::vector<std::int64_t> bytes;
  for (const MatrixShape& shape : shapes) bytes.push_back(singular_values_bytes(shape.rows, shape.columns));
  std::sort(bytes.rbegin(), bytes.rend());
  std::int64_t sum = 0, threads_left = num_threads();
  for (const std::int64_t of_matrix : bytes) {
    const std::int64_t at_once = std::min(num_layers, threads_left);
    sum += at_once * of_matrix;
    threads_left -= at_once;
  }
  return sum;
}

}  // namespace spectrace
