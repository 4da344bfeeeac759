#include "spectrace/numerics/product_rate.hpp"

#include <algorithm>
#include <vector>

#include "blas.hpp"
#include "spectrace/core/parallel.hpp"
#include "spectrace/core/stopwatch.hpp"

namespace spectrace {
namespace {

/// By what multiplies numbers of this type everywhere else.
void multiply_tensors(const Tensor& a, Tensor& result) {
  if (a.scalar_type() != at::kDouble) {
    at::mm_out(result, a, a);
    return;
  }
  const std::int64_t n = a.size(0);
  const Block factor{a.mutable_data_ptr<double>(), n, n, n};
  multiply(Form::as_is, factor, Form::as_is, factor, {result.mutable_data_ptr<double>(), n, n, n}, 1.0, 0.0);
}

}  // namespace

double product_rate(ComputeType type) {
  constexpr std::int64_t kSize = 1024;
  constexpr int kRepetitions = 3;
  const auto threads = static_cast<std::size_t>(num_threads());
  const auto options = at::TensorOptions(scalar_type(type));
  const Tensor a = at::full({kSize, kSize}, 0.5, options);
  std::vector<Tensor> results(threads);
  for (Tensor& result : results) {  // the first time is slower
    result = at::empty_like(a);
    multiply_tensors(a, result);
  }
  double best_s = 0;
  for (int i = 0; i < kRepetitions; ++i) {
    const Stopwatch watch;
    parallel_for(static_cast<std::int64_t>(threads),
                 [&](std::int64_t task) { multiply_tensors(a, results[static_cast<std::size_t>(task)]); });
    best_s = i == 0 ? watch.elapsed_s() : std::min(best_s, watch.elapsed_s());
  }
  return 2.0 * kSize * kSize * kSize * static_cast<double>(threads) / best_s;
}

}  // namespace spectrace
