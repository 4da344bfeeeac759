#pragma once

#include <memory>
#include <vector>

#include "spectrace/measure/record.hpp"
#include "spectrace/measure/slicing.hpp"
#include "spectrace/numerics/sheaf_spectrum.hpp"

namespace spectrace {

/// Spectrum of one slice of W_V, shared by all query heads that use it.
struct ValueSpectrum {
  std::vector<double> singular_values;  // descending
  double error_bound = 0;
  double frobenius_norm = 0;
  std::shared_ptr<const ValueLevels> levels;  // of the sheaf Laplacian
};

/// One entry a query head. Slices that several heads share are computed once.
std::vector<ValueSpectrum> value_spectra(const SlicedWeights& weights);

/// Section 1 of docs/quantities.md for one layer: arrays named as the datasets of /weights, without the layer
/// dimension: singular_values [4, index], the others [4]. index = most singular values that any of the four has.
Record measure_matrices(const SlicedWeights& weights);

/// The same for each head's slice: arrays as in /heads: singular_values [4, heads, index], the others [4, heads]. W_Q
/// and W_V are cut by rows, W_K by the rows of the head's key/value head, W_O by columns.
Record measure_heads(const ModelDescription& model, const SlicedWeights& weights, Slicing slicing,
                     const std::vector<ValueSpectrum>& values);

/// Peak bytes of measure_matrices, with as many matrices under work as there are threads, for planning. Heads take
/// less.
std::int64_t weight_spectra_workspace_bytes(const ModelDescription& model, std::int64_t num_layers = 1);

}  // namespace spectrace
