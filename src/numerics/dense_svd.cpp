#include "spectrace/numerics/dense_svd.hpp"

#include <algorithm>
#include <cmath>

#include "band_reduction.hpp"
#include "bidiagonal_svd.hpp"
#include "bulge_chasing.hpp"
#include "pairwise_sum.hpp"
#include "spectrace/core/error.hpp"
#include "spectrace/numerics/numerical_error.hpp"

namespace spectrace {
namespace {

std::vector<double> to_vector(const Tensor& t) {
  const Tensor dense = t.contiguous();
  const double* data = dense.const_data_ptr<double>();
  return {data, data + dense.numel()};
}

/// The largest min(m, n) eigenvalues of [0 A; A^T 0], which are +-sigma and zeros.
std::vector<double> by_jordan_wielandt(const Tensor& a) {
  const std::int64_t m = a.size(0), n = a.size(1);
  Tensor symmetric = at::zeros({m + n, m + n}, a.options());
  symmetric.narrow(0, m, n).narrow(1, 0, m).copy_(a.t());  // eigvalsh reads the lower triangle alone
  std::vector<double> values = to_vector(at::linalg_eigvalsh(symmetric));
  std::reverse(values.begin(), values.end());
  values.resize(static_cast<std::size_t>(std::min(m, n)));
  for (double& value : values) value = std::max(value, 0.0);
  return values;
}

/// Wide bands make the products faster, and chasing bulges slower.
std::int64_t bandwidth_for(std::int64_t num_columns) {
  return num_columns < 192 ? 16 : num_columns < 1536 ? 32 : kWidestBand;
}

/// Columns that lie a multiple of 4096 bytes from each other share few places of the caches.
std::int64_t stride_for(std::int64_t num_rows) { return num_rows % 64 == 0 ? num_rows + 16 : num_rows; }

std::vector<double> by_two_stages(const Tensor& a) {
  const Tensor tall = a.size(0) >= a.size(1) ? a : a.t();
  const std::int64_t m = tall.size(0), n = tall.size(1);
  Tensor copy = at::empty({n, stride_for(m)}, a.options()).narrow(1, 0, m);  // column-major [m, n]
  copy.copy_(tall.t());
  BandMatrix band = reduce_to_band({copy.mutable_data_ptr<double>(), m, n, copy.stride(0)}, bandwidth_for(n));
  copy = Tensor();
  return bidiagonal_singular_values(chase_bulges(std::move(band)));
}

}  // namespace

std::vector<double> dense_singular_values(const Tensor& a, SvdRoute route) {
  SPECTRACE_ASSERT(a.dim() == 2 && a.scalar_type() == at::kDouble);
  if (a.numel() == 0) return {};
  try {
    switch (route) {
      case SvdRoute::two_stage: return by_two_stages(a);
      case SvdRoute::direct: return to_vector(at::linalg_svdvals(a));
      case SvdRoute::transposed: return to_vector(at::linalg_svdvals(a.t()));
      case SvdRoute::jordan_wielandt: return by_jordan_wielandt(a);
    }
  } catch (const c10::LinAlgError&) {  // did not converge: the caller takes the next route
  }
  return {};
}

std::int64_t two_stage_bytes(std::int64_t num_rows, std::int64_t num_columns) {
  const std::int64_t m = std::max(num_rows, num_columns), n = std::min(num_rows, num_columns);
  return 8 * stride_for(m) * n + band_reduction_bytes(m, n, bandwidth_for(n));
}

CheckedSingularValues checked_singular_values(const Tensor& a, double frobenius_norm, double tolerance) {
  if (a.numel() == 0) return {};
  for (const SvdRoute route :
       {SvdRoute::two_stage, SvdRoute::direct, SvdRoute::transposed, SvdRoute::jordan_wielandt}) {
    std::vector<double> values = dense_singular_values(a, route);
    if (values.empty()) continue;
    const double sum_of_squares = pairwise_sum(0, static_cast<std::int64_t>(values.size()), [&](std::int64_t i) {
      const double value = values[static_cast<std::size_t>(i)];
      return value * value;
    });
    const double drift = std::abs(std::sqrt(sum_of_squares) - frobenius_norm);
    if (drift <= tolerance) return {std::move(values), drift};  // a NaN fails this, too
  }
  throw NumericalError("the singular values of a " + std::to_string(a.size(0)) + " x " + std::to_string(a.size(1)) +
                       " matrix did not converge (two-stage bidiagonalization with dqds, dgesdd of it and of its "
                       "transpose, dsyevd of [0 A; A^T 0])");
}

}  // namespace spectrace
