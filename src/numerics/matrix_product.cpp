#include "matrix_product.hpp"

#include <cstdlib>
#include <memory>
#include <new>
#include <string_view>

#include "spectrace/core/error.hpp"
#include "spectrace/numerics/device.hpp"
#include "spectrace/numerics/linear_map.hpp"
#include "vector_kinds.hpp"

namespace spectrace {
namespace {

/// What a thread copies operands into, as long as it lives: 1.5 MB.
template <typename Real>
class ProductCopies {
 public:
  ProductCopies() {
    constexpr std::size_t kCacheLine = 64;
    numbers_.reset(static_cast<Real*>(std::aligned_alloc(kCacheLine, kProductCopies * sizeof(Real))));
    if (!numbers_) throw std::bad_alloc();
  }
  Real* numbers() { return numbers_.get(); }

 private:
  struct Free {
    void operator()(Real* place) const { std::free(place); }
  };
  std::unique_ptr<Real[], Free> numbers_;
};

/// A matrix one of whose strides is 1.
template <typename Real>
ProductOperand<Real> operand_of(const Tensor& matrix) {
  return {matrix.const_data_ptr<Real>(), matrix.stride(0), matrix.stride(1)};
}

bool has_unit_stride(const Tensor& matrix) { return matrix.stride(0) == 1 || matrix.stride(1) == 1; }

template <typename Real>
void linear_by_kernel(const Tensor& x, const Tensor& w, Tensor& out, bool has_bias) {
  // A row of the result is a column of its transpose, w x^T.
  multiply_by_kernel(operand_of<Real>(w), operand_of<Real>(x.t()), out.mutable_data_ptr<Real>(), out.stride(0),
                     w.size(0), x.size(0), w.size(1), Real(1), has_bias ? Real(1) : Real(0));
}

}  // namespace

std::vector<ProductWay> product_ways() {
  std::vector<ProductWay> ways = {ProductWay::blas};
  if (best_vector_kind() == VectorKind::avx512) ways.push_back(ProductWay::kernel);
  return ways;
}

ProductWay best_product_way() {
  static const ProductWay best = [] {
    // Whoever asks MKL for the same bits on several kinds of processors shall have them.
    const char* const mode = std::getenv("MKL_CBWR");
    if (mode != nullptr && std::string_view(mode) != "AUTO") return ProductWay::blas;
#ifdef SPECTRACE_X86_KERNELS
    // MKL multiplies by half vectors on processors that are not Intel's.
    if (!__builtin_cpu_is("intel")) return product_ways().back();
#endif
    return ProductWay::blas;
  }();
  return best;
}

template <typename Real>
void multiply_by_kernel([[maybe_unused]] ProductOperand<Real> a, [[maybe_unused]] ProductOperand<Real> b,
                        [[maybe_unused]] Real* c, [[maybe_unused]] std::int64_t stride, [[maybe_unused]] std::int64_t m,
                        [[maybe_unused]] std::int64_t n, [[maybe_unused]] std::int64_t inner,
                        [[maybe_unused]] Real scale, [[maybe_unused]] Real keep) {
  SPECTRACE_ASSERT(product_ways().back() == ProductWay::kernel);
#ifdef SPECTRACE_X86_KERNELS
  thread_local ProductCopies<Real> copies;
  multiply_avx512(a, b, c, stride, m, n, inner, scale, keep, copies.numbers());
#endif
}
template void multiply_by_kernel(ProductOperand<double>, ProductOperand<double>, double*, std::int64_t, std::int64_t,
                                 std::int64_t, std::int64_t, double, double);

void linear_map_into(const Tensor& x, const Tensor& w, const std::optional<Tensor>& bias, Tensor out) {
  const bool is_ours = Device::of(x).is_host() && best_product_way() == ProductWay::kernel && x.numel() > 0 &&
                       w.numel() > 0 && has_unit_stride(x) && has_unit_stride(w) && out.stride(1) == 1;
  if (!is_ours) {
    if (bias)
      at::addmm_out(out, *bias, x, w.t());
    else
      at::mm_out(out, x, w.t());
    return;
  }
  if (bias) out.copy_(bias->expand_as(out));
  if (x.scalar_type() == at::kFloat)
    linear_by_kernel<float>(x, w, out, bias.has_value());
  else
    linear_by_kernel<double>(x, w, out, bias.has_value());
}

Tensor linear_map(const Tensor& x, const Tensor& w, const std::optional<Tensor>& bias) {
  Tensor out = at::empty({x.size(0), w.size(0)}, x.options());
  linear_map_into(x, w, bias, out);
  return out;
}

}  // namespace spectrace
