#include "spectrace/numerics/token_geometry.hpp"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <cmath>
#include <span>
#include <type_traits>

#include "pairwise_sum.hpp"
#include "spectrace/core/error.hpp"
#include "spectrace/core/floats.hpp"
#include "spectrace/numerics/device.hpp"
#include "symmetric_eigenvalues.hpp"

namespace spectrace {
namespace {

double squared(double x) { return x * x; }

struct LargestEntry {
  double size = 0;
  std::int64_t place = 0;  // of all entries, by rows
};

LargestEntry find_largest(std::span<const double> entries) {
  LargestEntry largest;
  for (std::size_t i = 0; i < entries.size(); ++i)
    if (const double size = std::abs(entries[i]); size > largest.size) largest = {size, static_cast<std::int64_t>(i)};
  return largest;
}

template <typename Real>
double lower_median_of_sizes(std::span<const double> entries) {
  std::vector<Real> sizes(entries.size());
  std::transform(entries.begin(), entries.end(), sizes.begin(),
                 [](double x) { return static_cast<Real>(std::abs(x)); });
  const auto middle = sizes.begin() + static_cast<std::ptrdiff_t>((sizes.size() - 1) / 2);
  std::nth_element(sizes.begin(), middle, sizes.end());
  return static_cast<double>(*middle);
}

double excess_kurtosis(std::span<const double> entries) {
  const double* const x = entries.data();
  const auto count = static_cast<std::int64_t>(entries.size());
  const auto size = static_cast<double>(count);
  const double mean = pairwise_sum(entries) / size;
  const double second = pairwise_sum(0, count, [=](std::int64_t i) { return squared(x[i] - mean); }) / size;
  const double fourth = pairwise_sum(0, count, [=](std::int64_t i) { return squared(squared(x[i] - mean)); }) / size;
  return second == 0.0 ? kNaN : fourth / squared(second) - 3.0;
}

/// -sum p ln p of what eigenvalues, ascending, are of their sum; below zero is a rounding of zero. Of the largest p,
/// which is near 1 where one direction outweighs all others, ln p comes from what the others are together.
double entropy_of_eigenvalues(std::span<const double> ascending) {
  const auto others = ascending.first(ascending.size() - 1);
  const double rest = pairwise_sum(0, static_cast<std::int64_t>(others.size()),
                                   [=](std::int64_t i) { return std::max(others[static_cast<std::size_t>(i)], 0.0); });
  const double total = rest + ascending.back();
  if (!(total > 0.0)) return kNaN;
  const double of_others = pairwise_sum(0, static_cast<std::int64_t>(others.size()), [=](std::int64_t i) {
    const double p = std::max(others[static_cast<std::size_t>(i)], 0.0) / total;
    return p == 0.0 ? 0.0 : p * std::log(p);
  });
  return -(of_others + ascending.back() / total * std::log1p(-rest / total));
}

/// sum over the entries' columns of what the unit vectors add up to, squared: n + the sum of the cosines of all ordered
/// pairs.
double anisotropy_of(const Tensor& x) {
  const std::int64_t n = x.size(0), width = x.size(1);
  if (n < 2) return kNaN;
  std::vector<double> sum(static_cast<std::size_t>(width));
  const double* const entries = x.const_data_ptr<double>();
  for (std::int64_t i = 0; i < n; ++i) {
    const double* const row = entries + i * width;
    const double norm = std::sqrt(pairwise_sum(0, width, [=](std::int64_t k) { return squared(row[k]); }));
    for (std::int64_t k = 0; k < width; ++k) sum[static_cast<std::size_t>(k)] += row[k] / norm;
  }
  const double* const total = sum.data();
  const auto count = static_cast<double>(n);
  return (pairwise_sum(0, width, [=](std::int64_t k) { return squared(total[k]); }) - count) / (count * (count - 1.0));
}

}  // namespace

TokenGeometry token_geometry(const Tensor& h) {
  const c10::InferenceMode no_autograd;
  SPECTRACE_ASSERT(h.dim() == 2 && h.numel() > 0 && Device::of(h).is_host());
  Tensor x = at::empty(h.sizes(), at::kDouble);
  x.copy_(h);
  const std::span<double> entries(x.mutable_data_ptr<double>(), static_cast<std::size_t>(x.numel()));
  const LargestEntry largest = find_largest(entries);
  TokenGeometry found{.max_abs_entry = largest.size,
                      .max_abs_token = largest.place / h.size(1),
                      .max_abs_channel = largest.place % h.size(1)};
  const bool is_float = h.scalar_type() == at::kFloat;  // which is all that its entries need
  found.massive_ratio =
      largest.size / (is_float ? lower_median_of_sizes<float>(entries) : lower_median_of_sizes<double>(entries));
  if (largest.size == 0.0) {
    found.kurtosis = found.matrix_entropy = found.anisotropy = kNaN;
    return found;
  }
  // Fourth powers stay numbers: what follows is the same of any multiple.
  const double scale = std::ldexp(1.0, std::clamp(-std::ilogb(largest.size), -1000, 1000));
  for (double& entry : entries) entry *= scale;
  found.kurtosis = excess_kurtosis(entries);
  found.matrix_entropy = entropy_of_eigenvalues(symmetric_eigenvalues(
      x.size(0) <= x.size(1) ? at::mm(x, x.t()) : at::mm(x.t(), x)));  // which have the same ones but for zeros
  found.anisotropy = anisotropy_of(x);
  return found;
}

std::int64_t token_geometry_bytes(std::int64_t num_tokens, std::int64_t hidden_size) {
  const std::int64_t size = std::min(num_tokens, hidden_size);
  return 2 * 8 * num_tokens * hidden_size + 8 * size * size + tridiagonalization_bytes(size);
}

double token_geometry_flops(std::int64_t num_tokens, std::int64_t hidden_size) {
  const auto size = static_cast<double>(std::min(num_tokens, hidden_size)),
             other = static_cast<double>(std::max(num_tokens, hidden_size));
  return 2 * size * size * other + 4.0 / 3.0 * size * size * size;
}

Tensor squared_distances(const Tensor& h) {
  const c10::InferenceMode no_autograd;
  SPECTRACE_ASSERT(h.dim() == 2 && h.numel() > 0 && Device::of(h).is_host());
  const Tensor x = h.to(at::kDouble);
  Tensor gram = at::mm(x, x.t());
  const Tensor squares = gram.diagonal().clone();
  gram.mul_(-2).add_(squares.unsqueeze(0)).add_(squares.unsqueeze(1)).clamp_min_(0);
  gram.fill_diagonal_(0);
  return gram;
}

namespace {

/// A power of two that brings a row to where squares neither overflow nor vanish; those of float32 never do.
template <typename Real>
double scale_of(const Real* row, std::int64_t width) {
  if constexpr (std::is_same_v<Real, float>) return 1.0;
  Real largest = 0;
  for (std::int64_t i = 0; i < width; ++i) largest = std::max(largest, std::abs(row[i]));
  return largest > 0 && std::isfinite(largest) ? std::ldexp(1.0, std::clamp(-std::ilogb(largest), -1000, 1000)) : 1.0;
}

template <typename Real>
double cosine(const Real* a, const Real* b, std::int64_t width) {
  const double scale_a = scale_of(a, width), scale_b = scale_of(b, width);
  const auto sum_of = [width](const Real* one, double scale_one, const Real* other, double scale_other) {
    return pairwise_sum(0, width, [=](std::int64_t i) {
      return static_cast<double>(one[i]) * scale_one * (static_cast<double>(other[i]) * scale_other);
    });
  };
  return sum_of(a, scale_a, b, scale_b) / std::sqrt(sum_of(a, scale_a, a, scale_a)) /
         std::sqrt(sum_of(b, scale_b, b, scale_b));
}

template <typename Real>
std::vector<double> cosines_on_host(const Tensor& a, const Tensor& b) {
  SPECTRACE_ASSERT(a.stride(1) == 1 && b.stride(1) == 1);
  std::vector<double> cosines;
  for (std::int64_t row = 0; row < a.size(0); ++row)
    cosines.push_back(
        cosine(a.const_data_ptr<Real>() + row * a.stride(0), b.const_data_ptr<Real>() + row * b.stride(0), a.size(1)));
  return cosines;
}

std::vector<double> cosines_on_device(const Tensor& a, const Tensor& b) {
  const auto unit = [](const Tensor& rows) {
    const Tensor wide = rows.to(at::kDouble);
    const Tensor scaled = wide / wide.abs().amax(1, /*keepdim=*/true);
    return scaled / scaled.square().sum(1, /*keepdim=*/true).sqrt();
  };
  const Tensor cosines = Device::to_host(unit(a).mul(unit(b)).sum(1)).contiguous();
  const double* const first = cosines.const_data_ptr<double>();
  return {first, first + cosines.numel()};
}

}  // namespace

std::vector<double> row_cosines(const Tensor& a, const Tensor& b) {
  const c10::InferenceMode no_autograd;
  SPECTRACE_ASSERT(a.dim() == 2 && a.sizes() == b.sizes() && a.scalar_type() == b.scalar_type());
  if (!Device::of(a).is_host()) return cosines_on_device(a, b);
  return a.scalar_type() == at::kFloat ? cosines_on_host<float>(a, b) : cosines_on_host<double>(a, b);
}

}  // namespace spectrace
