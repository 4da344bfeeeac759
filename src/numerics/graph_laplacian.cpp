#include "spectrace/numerics/graph_laplacian.hpp"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <cmath>
#include <span>

#include "pairwise_sum.hpp"
#include "spectrace/core/error.hpp"
#include "spectrace/core/floats.hpp"
#include "spectrace/core/parallel.hpp"
#include "spectrace/numerics/device.hpp"

namespace spectrace {
namespace {

/// Of Laplacians at a time: 512 KiB stay in the L2 cache, and the heads of a long prompt are a task each.
constexpr std::int64_t kBatchEntries = 1 << 16;

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

/// Spectra of some heads, at the beginning of `spectra`. Which heads go together has no effect on the bits of one.
void solve(const Tensor& a, std::span<GraphSpectrum> spectra) {
  const std::int64_t count = a.size(0), n = a.size(1);
  const Tensor laplacians = at::empty({count, n, n}, at::TensorOptions(at::kDouble));
  for (std::int64_t i = 0; i < count; ++i) {
    double* const l = laplacians.mutable_data_ptr<double>() + i * n * n;
    double& sum = spectra[static_cast<std::size_t>(i)].off_diagonal_sum;
    sum = write_laplacian(a.select(0, i), l);
    if (!std::isfinite(sum)) std::fill(l, l + n * n, 0.0);  // LAPACK may loop for ever on NaN
  }
  const Tensor eigenvalues = at::linalg_eigvalsh(laplacians).contiguous();
  const double* const mu = eigenvalues.const_data_ptr<double>();
  for (std::int64_t i = 0; i < count; ++i) {
    GraphSpectrum& spectrum = spectra[static_cast<std::size_t>(i)];
    spectrum.eigenvalues.assign(mu + i * n, mu + (i + 1) * n);
    if (!std::isfinite(spectrum.off_diagonal_sum))
      std::fill(spectrum.eigenvalues.begin(), spectrum.eigenvalues.end(), kNaN);
  }
}

}  // namespace

std::int64_t graph_spectra_batch(std::int64_t num_heads, std::int64_t num_tokens) {
  return std::clamp<std::int64_t>(kBatchEntries / (num_tokens * num_tokens), 1, std::max<std::int64_t>(1, num_heads));
}

std::vector<GraphSpectrum> graph_spectra(const Tensor& a) {
  SPECTRACE_ASSERT(a.dim() == 3 && a.size(1) == a.size(2) && a.size(1) > 0);
  SPECTRACE_ASSERT(a.scalar_type() == at::kFloat || a.scalar_type() == at::kDouble);
  const std::int64_t num_heads = a.size(0), batch = graph_spectra_batch(num_heads, a.size(1));
  std::vector<GraphSpectrum> spectra(static_cast<std::size_t>(num_heads));
  // From another device than the host, as many heads are brought at a time as all threads have work with.
  const bool is_here = Device::of(a).is_host();
  const std::int64_t at_once = is_here ? num_heads : std::min(num_heads, batch * num_threads());
  for (std::int64_t first = 0; first < num_heads; first += at_once) {
    const Tensor some = a.narrow(0, first, std::min(at_once, num_heads - first));
    const Tensor here = is_here ? some : Device::to_host(some);
    parallel_for((here.size(0) + batch - 1) / batch, [&](std::int64_t i) {
      const c10::InferenceMode no_autograd;
      const std::int64_t begin = i * batch, count = std::min(batch, here.size(0) - begin);
      solve(here.narrow(0, begin, count), std::span(spectra).subspan(static_cast<std::size_t>(first + begin)));
    });
  }
  return spectra;
}

double contraction_ratio(const Tensor& a) {
  SPECTRACE_ASSERT(a.dim() == 2 && a.size(0) == a.size(1) && a.size(0) > 0);
  SPECTRACE_ASSERT(a.scalar_type() == at::kDouble && a.is_contiguous());
  const double* const entries = a.const_data_ptr<double>();
  const auto n = static_cast<double>(a.size(0));
  return pairwise_sum(0, a.numel(), [=](std::int64_t i) { return std::sqrt(entries[i]); }) / (n * (n + 1.0) / 2.0);
}

}  // namespace spectrace
