#include "spectrace/numerics/low_rank_product.hpp"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "pairwise_sum.hpp"
#include "reflector_error.hpp"
#include "spectrace/core/error.hpp"

namespace spectrace {
namespace {

double largest_entry(const Tensor& a) { return a.numel() == 0 ? 0.0 : a.abs().max().item<double>(); }

/// ||a||_2 <= sqrt(||a||_1 ||a||_inf) and <= ||a||_F: one is near where the entries lie along the diagonal, the other
/// where one singular value is all there is.
double bound_of_norm(const Tensor& a, double frobenius_norm) {
  if (a.numel() == 0) return 0.0;
  const Tensor sizes = a.abs();
  const double columns = sizes.sum(0).max().item<double>(), rows = sizes.sum(1).max().item<double>();
  return std::min(frobenius_norm, std::sqrt(columns * rows));
}

/// Back to the scale of what was asked for.
double scaled_back(double value, int exponent) { return std::ldexp(value, -exponent); }

/// What a bound has to take in, since values that are scaled back may lose digits at the lower end of the range.
double lost_in_scale(double largest, int exponent) {
  return largest > 0 && exponent > 0 ? std::numeric_limits<double>::denorm_min() : 0.0;
}

NumericalError no_float64(const char* what, const char* where) {
  return NumericalError(std::string(what) + " of a product is " + where +
                        " the range of float64, though its factors are in it");
}

/// The largest || a v - lambda v || / || v || of the pairs, and what roundings of this very computation may hide.
/// @pre a is real, lambda [n] and v [n, n] complex.
double residual_bound(const Tensor& a, const Tensor& lambda, const Tensor& v) {
  const Tensor real = at::real(v).contiguous(), imaginary = at::imag(v).contiguous();
  const Tensor residual = at::complex(a.mm(real), a.mm(imaginary)) - v * lambda;
  const Tensor norms = at::linalg_vector_norm(residual, 2, at::IntArrayRef{0}),
               sizes = at::linalg_vector_norm(v, 2, at::IntArrayRef{0});
  const auto n = static_cast<double>(a.size(0));
  const double frobenius = at::linalg_vector_norm(a).item<double>();
  return (norms / sizes).max().item<double>() + (n + 8) * kUnitRoundoff * frobenius;
}

}  // namespace

ThinFactor factorize(const Tensor& a, FactorParts parts) {
  const c10::InferenceMode no_autograd;
  SPECTRACE_ASSERT(a.dim() == 2);
  ThinFactor factor;
  // By columns, however a lies in memory: another layout would have other roundings.
  const Tensor entries = at::empty({a.size(1), a.size(0)}, at::TensorOptions(at::kDouble)).t().copy_(a);
  const double largest = largest_entry(entries);
  if (!std::isfinite(largest)) throw NumericalError("an entry of a factor is not finite");
  if (largest > 0) {
    // In two steps, since 2^1074 is no float64 number. Powers of two change no digit of an entry.
    factor.exponent = -std::ilogb(largest);
    const int first = std::clamp(factor.exponent, -1000, 1000);
    entries.mul_(std::ldexp(1.0, first));
    if (first != factor.exponent) entries.mul_(std::ldexp(1.0, factor.exponent - first));
  }
  factor.triangle = std::get<1>(at::linalg_qr(entries, "r"));
  factor.frobenius_norm = at::linalg_vector_norm(factor.triangle).item<double>();
  factor.norm_bound = bound_of_norm(factor.triangle, factor.frobenius_norm);
  const std::int64_t reflectors = std::min(a.size(0), a.size(1));
  factor.relative_error = reflector_error(static_cast<double>(reflectors * a.size(0)));
  factor.num_rows = a.size(0);
  if (parts == FactorParts::entries_too) factor.entries = entries;
  return factor;
}

ProductSpectrum product_spectrum(const ThinFactor& left, const ThinFactor& right) {
  const c10::InferenceMode no_autograd;
  const std::int64_t inner = left.triangle.size(1);
  SPECTRACE_ASSERT(right.triangle.size(1) == inner);
  ProductSpectrum product;
  SingularValues& singular = product.singular;
  singular = singular_values(left.triangle.mm(right.triangle.t()));
  if (singular.values.empty()) return product;
  // What the triangles are exact for, what the core's products lose (Higham 2002, section 3.5), what its values lose.
  const double of_factors = (left.relative_error + right.relative_error) * left.norm_bound * right.norm_bound;
  const double of_core = static_cast<double>(inner) * kUnitRoundoff * left.frobenius_norm * right.frobenius_norm;
  singular.error_bound += of_factors + of_core;
  const double norm = std::sqrt(pairwise_sum(0, static_cast<std::int64_t>(singular.values.size()), [&](std::int64_t i) {
    const double value = singular.values[static_cast<std::size_t>(i)];
    return value * value;
  }));
  product.summary = summarize_spectrum(singular.values, norm, left.num_rows, right.num_rows);
  // Ratios do not know of the scale.
  const int exponent = left.exponent + right.exponent;
  const double largest = singular.values.front();
  for (double& value : singular.values) value = scaled_back(value, exponent);
  product.summary.spectral_norm = singular.values.front();
  product.summary.frobenius_norm = scaled_back(norm, exponent);
  singular.error_bound = scaled_back(singular.error_bound, exponent) + lost_in_scale(largest, exponent);
  if (!std::isfinite(product.summary.frobenius_norm)) throw no_float64("the norm", "beyond");
  if (largest > 0 && singular.values.front() < std::numeric_limits<double>::min())
    throw no_float64("the norm", "below");
  return product;
}

ProductEigenvalues product_eigenvalues(const ThinFactor& left, const ThinFactor& right) {
  const c10::InferenceMode no_autograd;
  SPECTRACE_ASSERT(left.entries.defined() && right.entries.defined() && left.entries.sizes() == right.entries.sizes());
  const Tensor product = right.entries.t().mm(left.entries);
  Tensor lambda, vectors;
  try {
    std::tie(lambda, vectors) = at::linalg_eig(product);
  } catch (const c10::LinAlgError&) {
    throw NumericalError("the eigenvalues of a " + std::to_string(product.size(0)) + " x " +
                         std::to_string(product.size(1)) + " matrix did not converge (dgeev)");
  }
  const auto* const values = lambda.const_data_ptr<c10::complex<double>>();
  double sum = 0, sum_of_sizes = 0, radius = 0;
  for (std::int64_t i = 0; i < lambda.numel(); ++i) {
    const double size = std::hypot(values[i].real(), values[i].imag());
    sum += values[i].real();
    sum_of_sizes += size;
    radius = std::max(radius, size);
  }
  const int exponent = left.exponent + right.exponent;
  const double of_product = static_cast<double>(left.num_rows) * kUnitRoundoff * left.frobenius_norm *
                            right.frobenius_norm;  // Higham 2002, section 3.5
  ProductEigenvalues eigenvalues;
  eigenvalues.positivity = sum / sum_of_sizes;
  eigenvalues.spectral_radius = scaled_back(radius, exponent);
  eigenvalues.backward_error =
      scaled_back(residual_bound(product, lambda, vectors) + of_product, exponent) + lost_in_scale(radius, exponent);
  if (!std::isfinite(eigenvalues.spectral_radius)) throw no_float64("the spectral radius", "beyond");
  return eigenvalues;
}

double factorize_flops(std::int64_t m, std::int64_t d) { return triangle_flops(std::max(m, d), std::min(m, d)); }

double product_spectrum_flops(std::int64_t d) {
  return 2 * std::pow(static_cast<double>(d), 3) + singular_values_flops(d, d);
}

/// 25 d^3 for the eigenvectors (Golub & Van Loan 2013, section 7.5), 4 d^3 for the residual.
double product_eigenvalues_flops(std::int64_t m, std::int64_t d) {
  const auto columns = static_cast<double>(d);
  return 2 * static_cast<double>(m) * columns * columns + 29 * columns * columns * columns;
}

std::int64_t thin_factor_bytes(std::int64_t m, std::int64_t d, FactorParts parts) {
  return 8 * (d * d + (parts == FactorParts::entries_too ? m * d : 0));
}

/// The factorization's copies; eigenvectors, their parts and the residual are complex.
std::int64_t low_rank_product_bytes(std::int64_t m, std::int64_t d) {
  return std::max({2 * 8 * m * d, 8 * 16 * d * d, 8 * d * d + singular_values_bytes(d, d)});
}

}  // namespace spectrace
