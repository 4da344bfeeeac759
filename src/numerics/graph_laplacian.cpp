#include "spectrace/numerics/graph_laplacian.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "spectrace/core/error.hpp"
#include "spectrace/core/parallel.hpp"
#include "spectrace/numerics/device.hpp"

namespace spectrace {
namespace {

constexpr std::int64_t kBatchEntries = 1 << 20;  // 8 MiB of Laplacians at a time

/// Writes L_G of one head and returns sum A - tr A. @pre a is [n, n], any strides.
template <typename Real>
double write_laplacian(const Real* a, std::int64_t row_stride, std::int64_t column_stride, std::int64_t n, double* l) {
  std::fill(l, l + n * n, 0.0);
  double total = 0.0;
  for (std::int64_t i = 0; i < n; ++i) {
    double row_total = 0.0;
    for (std::int64_t j = 0; j < i; ++j) {
      const double weight = 0.5 * (static_cast<double>(a[i * row_stride + j * column_stride]) +
                                   static_cast<double>(a[j * row_stride + i * column_stride]));
      l[i * n + j] = l[j * n + i] = -weight;
      l[j * n + j] += weight;
      row_total += weight;
    }
    l[i * n + i] += row_total;
    total += row_total;
  }
  return 2.0 * total;
}

double write_laplacian(const Tensor& a, double* l) {
  if (a.scalar_type() == at::kFloat)
    return write_laplacian(a.const_data_ptr<float>(), a.stride(0), a.stride(1), a.size(0), l);
  return write_laplacian(a.const_data_ptr<double>(), a.stride(0), a.stride(1), a.size(0), l);
}

/// Of attention on another device: brought to the host, whose threads share out the heads.
std::vector<GraphSpectrum> graph_spectra_from_device(const Tensor& a) {
  const std::int64_t num_heads = a.size(0), batch = graph_spectra_batch(num_heads, a.size(1));
  std::vector<GraphSpectrum> spectra(static_cast<std::size_t>(num_heads));
  // As many heads as all threads have work with; which go together has no effect on a head's bits.
  const std::int64_t at_once = std::min(num_heads, batch * num_threads());
  for (std::int64_t first = 0; first < num_heads; first += at_once) {
    const Tensor here = Device::to_host(a.narrow(0, first, std::min(at_once, num_heads - first)));
    parallel_for((here.size(0) + batch - 1) / batch, [&](std::int64_t i) {
      auto some = graph_spectra(here.narrow(0, i * batch, std::min(batch, here.size(0) - i * batch)));
      std::move(some.begin(), some.end(), spectra.begin() + first + i * batch);
    });
  }
  return spectra;
}

}  // namespace

std::int64_t graph_spectra_batch(std::int64_t num_heads, std::int64_t num_tokens) {
  return std::clamp<std::int64_t>(kBatchEntries / (num_tokens * num_tokens), 1, std::max<std::int64_t>(1, num_heads));
}

std::vector<GraphSpectrum> graph_spectra(const Tensor& a) {
  SPECTRACE_ASSERT(a.dim() == 3 && a.size(1) == a.size(2) && a.size(1) > 0);
  SPECTRACE_ASSERT(a.scalar_type() == at::kFloat || a.scalar_type() == at::kDouble);
  if (!Device::of(a).is_host()) return graph_spectra_from_device(a);
  const std::int64_t num_heads = a.size(0), n = a.size(1);
  const std::int64_t batch = graph_spectra_batch(num_heads, n);
  std::vector<GraphSpectrum> spectra(static_cast<std::size_t>(num_heads));
  const Tensor laplacians = at::empty({batch, n, n}, at::TensorOptions(at::kDouble));
  for (std::int64_t first = 0; first < num_heads; first += batch) {
    const std::int64_t count = std::min(batch, num_heads - first);
    for (std::int64_t i = 0; i < count; ++i) {
      double* const l = laplacians.mutable_data_ptr<double>() + i * n * n;
      double& sum = spectra[static_cast<std::size_t>(first + i)].off_diagonal_sum;
      sum = write_laplacian(a.select(0, first + i), l);
      if (!std::isfinite(sum)) std::fill(l, l + n * n, 0.0);  // LAPACK may loop for ever on NaN
    }
    const Tensor eigenvalues = at::linalg_eigvalsh(laplacians.narrow(0, 0, count)).contiguous();
    const double* const mu = eigenvalues.const_data_ptr<double>();
    for (std::int64_t i = 0; i < count; ++i) {
      GraphSpectrum& spectrum = spectra[static_cast<std::size_t>(first + i)];
      spectrum.eigenvalues.assign(mu + i * n, mu + (i + 1) * n);
      if (!std::isfinite(spectrum.off_diagonal_sum))
        std::fill(spectrum.eigenvalues.begin(), spectrum.eigenvalues.end(), std::numeric_limits<double>::quiet_NaN());
    }
  }
  return spectra;
}

}  // namespace spectrace
