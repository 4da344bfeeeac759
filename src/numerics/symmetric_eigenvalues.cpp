#include "symmetric_eigenvalues.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>

#include "spectrace/core/error.hpp"

namespace spectrace {
namespace {

constexpr std::int64_t kRowsOfPadding = 8;
constexpr std::uintptr_t kAlignment = 64;

std::int64_t padded(std::int64_t n, std::int64_t unit) { return (n + unit - 1) / unit * unit; }

/// On whole cache lines, as all memory of tensors.
Tensor zeros(std::int64_t count) {
  Tensor numbers = at::zeros({count}, at::kDouble);
  SPECTRACE_ASSERT(reinterpret_cast<std::uintptr_t>(numbers.const_data_ptr()) % kAlignment == 0);
  return numbers;
}

/// The power of two that brings the largest of the sizes near 1: exactly 1 where it is not far from it.
double scale_for(double largest) {
  if (largest == 0.0) return 1.0;
  const int exponent = std::ilogb(largest);
  // Squares of entries, and what is 1e-70 of them, are to be normal numbers.
  return std::abs(exponent) < 64 ? 1.0 : std::ldexp(1.0, std::clamp(-exponent, -1000, 1000));
}

std::int64_t entries_of_tiles(std::int64_t rows) {
  const std::int64_t strips = (rows + kSymmetricTileColumns - 1) / kSymmetricTileColumns;
  return kSymmetricTileColumns * (strips * rows - kSymmetricTileColumns * (strips * (strips - 1) / 2));
}

std::int64_t work_of_band_reduction(std::int64_t rows) {
  return kBandReductionColumns * padded(rows, kSymmetricTileColumns) + kBandReductionSquares;
}

/// With the zeros that a bulge reaches into.
std::int64_t entries_of_band(std::int64_t n) { return (kBandStride + 1) * (n + 2 * kBandwidth); }

/// The tridiagonal form that `reduce` makes of a matrix with entries near 1: the scale is a power of two.
template <typename Matrix, typename Reduce>
SymmetricTridiagonal scaled(Matrix& matrix, const Reduce& reduce) {
  double largest = 0.0;
  for (const double x : matrix.entries()) largest = std::max(largest, std::abs(x));
  const double scale = scale_for(largest);
  if (scale != 1.0)
    for (double& x : matrix.entries()) x *= scale;
  const auto n = static_cast<std::size_t>(matrix.size());
  SymmetricTridiagonal result{std::vector<double>(n), std::vector<double>(n)};
  reduce(result);
  if (scale != 1.0)
    for (std::size_t i = 0; i < n; ++i) {
      result.diagonal[i] /= scale;
      result.beside[i] /= scale;
    }
  return result;
}

}  // namespace

const SymmetricKernels& symmetric_kernels(VectorKind kind) {
  switch (kind) {
#ifdef SPECTRACE_X86_KERNELS
    case VectorKind::avx512: return kSymmetricAvx512;
    case VectorKind::avx2: return kSymmetricAvx2;
#endif
    default: return kSymmetricBaseline;
  }
}

const SymmetricKernels& symmetric_kernels() {
  static const SymmetricKernels& best = symmetric_kernels(best_vector_kind());
  return best;
}

SymmetricStrips::SymmetricStrips(std::int64_t n, const SymmetricKernels& kernels)
    : n_(n), rows_(padded(n, kRowsOfPadding)), block_rows_(kernels.block_rows), num_entries_(0) {
  SPECTRACE_ASSERT(n > 0);
  for (std::int64_t s = 0; s * kColumns < rows_; ++s) {
    strips_.push_back(num_entries_);
    num_entries_ += static_cast<std::size_t>(kColumns * (rows_ - first_row(s)));
  }
  entries_ = zeros(static_cast<std::int64_t>(num_entries_));
}

double& SymmetricStrips::at(std::int64_t i, std::int64_t j) {
  const std::int64_t s = j / kColumns, row = i - first_row(s);
  SPECTRACE_ASSERT(row >= 0 && i < n_);
  return strip(s)[row / block_rows_ * block_rows_ * kColumns + (j - s * kColumns) * block_rows_ + row % block_rows_];
}

SymmetricTiles::SymmetricTiles(std::int64_t n) : n_(n), rows_(padded(n, kSymmetricTileRows)) {
  SPECTRACE_ASSERT(n > 0);
  entries_ = zeros(entries_of_tiles(rows_));
}

double& SymmetricTiles::at(std::int64_t i, std::int64_t j) {
  const std::int64_t s = j / kColumns;
  SPECTRACE_ASSERT(i >= first_row(s) && i < n_);
  return strip(s)[(i - first_row(s)) * kColumns + j - s * kColumns];
}

std::span<double> SymmetricTiles::entries() {
  return {entries_.mutable_data_ptr<double>(), static_cast<std::size_t>(entries_.numel())};
}

SymmetricTridiagonal tridiagonalize(SymmetricStrips matrix, const SymmetricKernels& kernels) {
  SPECTRACE_ASSERT(matrix.block_rows() == kernels.block_rows);
  return scaled(matrix, [&](SymmetricTridiagonal& result) {
    const Tensor work = zeros(kTridiagonalizationRows * matrix.padded_rows());
    kernels.tridiagonalize(matrix.entries().data(), matrix.size(), matrix.padded_rows(),
                           work.mutable_data_ptr<double>(), result.diagonal.data(), result.beside.data());
  });
}

SymmetricTridiagonal tridiagonalize(SymmetricTiles matrix, const SymmetricKernels& kernels) {
  return scaled(matrix, [&](SymmetricTridiagonal& result) {
    const Tensor work = zeros(work_of_band_reduction(matrix.padded_rows())),
                 band = zeros(entries_of_band(matrix.size()));
    kernels.reduce_to_band(matrix.entries().data(), matrix.size(), matrix.padded_rows(),
                           work.mutable_data_ptr<double>(), band.mutable_data_ptr<double>());
    kernels.chase_bulges(band.mutable_data_ptr<double>(), matrix.size(), result.diagonal.data(), result.beside.data());
  });
}

std::int64_t tridiagonalization_bytes(std::int64_t n) {
  std::int64_t numbers = 0;
  if (n < kTwoStageSize) {
    const std::int64_t rows = padded(n, kRowsOfPadding);
    numbers = rows * (rows + kRowsOfPadding) / 2 + kTridiagonalizationRows * rows;
  } else {
    const std::int64_t rows = padded(n, kSymmetricTileRows);
    numbers = entries_of_tiles(rows) + work_of_band_reduction(rows) + entries_of_band(n);
  }
  return static_cast<std::int64_t>(sizeof(double)) * numbers;
}

std::vector<std::optional<std::vector<double>>> eigenvalues(std::span<const SymmetricTridiagonal* const> matrices,
                                                            const SymmetricKernels& kernels) {
  if (matrices.empty()) return {};
  const std::size_t count = matrices.size(), n = matrices.front()->diagonal.size();
  const auto step = static_cast<std::size_t>(kernels.together_step), together = (count + step - 1) / step * step;
  SPECTRACE_ASSERT(std::cmp_less_equal(together, kernels.most_together));
  const Tensor place = zeros(static_cast<std::int64_t>(3 * n * together));
  double *const diagonal = place.mutable_data_ptr<double>(), *const squares = diagonal + n * together,
                *const values = squares + n * together;
  std::vector<double> scales(count);
  for (std::size_t m = 0; m < count; ++m) {
    const SymmetricTridiagonal& matrix = *matrices[m];
    SPECTRACE_ASSERT(matrix.diagonal.size() == n && matrix.beside.size() == n);
    double largest = 0.0;
    for (std::size_t i = 0; i < n; ++i)
      largest = std::max({largest, std::abs(matrix.diagonal[i]), std::abs(matrix.beside[i])});
    scales[m] = scale_for(largest);
    for (std::size_t i = 0; i < n; ++i) {
      const double e = matrix.beside[i] * scales[m];
      diagonal[i * together + m] = matrix.diagonal[i] * scales[m];
      squares[i * together + m] = e * e;
    }
  }
  const auto converged = std::make_unique<bool[]>(together);
  kernels.values_of_tridiagonals(diagonal, squares, static_cast<std::int64_t>(n), static_cast<std::int64_t>(together),
                                 values, converged.get());
  std::vector<std::optional<std::vector<double>>> result(count);
  for (std::size_t m = 0; m < count; ++m) {
    if (!converged[m]) continue;
    result[m].emplace(values + m * n, values + (m + 1) * n);
    for (double& x : *result[m]) x /= scales[m];
    std::sort(result[m]->begin(), result[m]->end());
  }
  return result;
}

std::vector<double> eigenvalues_by_lapack(const SymmetricTridiagonal& matrix) {
  const Tensor dense = at::diag(at::tensor(matrix.diagonal));
  dense.diagonal(-1).copy_(at::tensor(matrix.beside).narrow(0, 0, dense.size(0) - 1));
  const Tensor values = at::linalg_eigvalsh(dense).contiguous();  // it reads the lower triangle alone
  return {values.const_data_ptr<double>(), values.const_data_ptr<double>() + values.numel()};
}

namespace {

template <typename Matrix>
SymmetricTridiagonal tridiagonalized(const double* entries, std::int64_t n) {
  Matrix matrix(n);
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t j = 0; j <= i; ++j) {
      matrix.at(i, j) = entries[i * n + j];
      if (j >= matrix.first_row(i / Matrix::kColumns)) matrix.at(j, i) = entries[i * n + j];
    }
  return tridiagonalize(std::move(matrix));
}

}  // namespace

std::vector<double> symmetric_eigenvalues(const Tensor& matrix) {
  SPECTRACE_ASSERT(matrix.dim() == 2 && matrix.size(0) == matrix.size(1) && matrix.size(0) > 0);
  SPECTRACE_ASSERT(matrix.scalar_type() == at::kDouble && matrix.is_contiguous());
  const std::int64_t n = matrix.size(0);
  const auto* const entries = matrix.const_data_ptr<double>();
  const SymmetricTridiagonal reduced =
      n < kTwoStageSize ? tridiagonalized<SymmetricStrips>(entries, n) : tridiagonalized<SymmetricTiles>(entries, n);
  const SymmetricTridiagonal* const one = &reduced;
  auto values = eigenvalues(std::span(&one, 1));
  return values.front() ? std::move(*values.front()) : eigenvalues_by_lapack(reduced);
}

}  // namespace spectrace
