#pragma once

#include <memory>
#include <vector>

#include "spectrace/measure/slicing.hpp"
#include "spectrace/numerics/sheaf_spectrum.hpp"

namespace spectrace {

/// Spectrum of one slice of W_V, shared by all query heads that use it (docs/quantities.md, section 4).
struct ValueSpectrum {
  std::vector<double> singular_values;  // descending
  double error_bound = 0;
  double frobenius_norm = 0;
  std::shared_ptr<const ValueLevels> levels;  // of the sheaf Laplacian
};

/// One entry a query head. Slices that several heads share are computed once.
/// @throws NumericalError.
std::vector<ValueSpectrum> value_spectra(const ModelDescription& model, const Tensor& sliced_w_v, Slicing slicing);
/// Estimate.
double value_spectra_flops(const ModelDescription& model);

}  // namespace spectrace
