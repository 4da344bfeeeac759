#pragma once

#include <cstdint>
#include <functional>

#include "spectrace/checkpoint/tensor_store.hpp"
#include "spectrace/measure/record.hpp"
#include "spectrace/measure/stored_matrix.hpp"

namespace spectrace {

/// Singular values, norms, ranks and moments of the entries of a stored matrix (matrix_quantities). `on_progress` is
/// told which share of the work was done since the last call, and may throw to end it; only of a matrix that comes in
/// rows. @throws InputError (model, io) naming the tensor, NumericalError.
Record stored_spectrum(const TensorStore& store, const StoredMatrix& matrix,
                       const std::function<void(double share)>& on_progress);

/// Whether the matrix is read in blocks of rows, so that it is done by all threads alone.
bool comes_in_rows(const StoredMatrix& matrix);
/// Estimate.
double stored_spectrum_flops(const StoredMatrix& matrix);
/// Peak bytes, those of the matrix among them; and what of these is surely needed.
std::int64_t stored_spectrum_bytes(const StoredMatrix& matrix);
std::int64_t stored_spectrum_least_bytes(const StoredMatrix& matrix);

}  // namespace spectrace
