#include "spectrace/numerics/product_rate.hpp"

#include <algorithm>
#include <vector>

#include "spectrace/core/parallel.hpp"
#include "spectrace/core/stopwatch.hpp"

namespace spectrace {

double product_rate(ComputeType type) {
  constexpr std::int64_t kSize = 1024;
  constexpr int kRepetitions = 3;
  const auto threads = static_cast<std::size_t>(num_threads());
  const auto options = at::TensorOptions(scalar_type(type));
  const Tensor a = at::full({kSize, kSize}, 0.5, options);
  std::vector<Tensor> results(threads);
  for (Tensor& result : results) result = at::mm(a, a);  // the first time is slower
  double best_s = 0;
  for (int i = 0; i < kRepetitions; ++i) {
    const Stopwatch watch;
    parallel_for(static_cast<std::int64_t>(threads),
                 [&](std::int64_t task) { at::mm_out(results[static_cast<std::size_t>(task)], a, a); });
    best_s = i == 0 ? watch.elapsed_s() : std::min(best_s, watch.elapsed_s());
  }
  return 2.0 * kSize * kSize * kSize * static_cast<double>(threads) / best_s;
}

}  // namespace spectrace
