#include "alibi.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <bit>
#include <cmath>

namespace spectrace {
namespace {

void append_powers(std::vector<double>& slopes, std::int64_t num_heads, const at::Tensor& exponents) {
  const double base = std::exp2(-std::exp2(-(std::log2(static_cast<double>(num_heads)) - 3)));
  const at::Tensor powers = at::pow(at::scalar_tensor(base, at::kFloat), exponents).to(at::kDouble);
  slopes.insert(slopes.end(), powers.const_data_ptr<double>(), powers.const_data_ptr<double>() + powers.numel());
}

}  // namespace

std::vector<double> alibi_slopes(std::int64_t num_heads) {
  const auto below = static_cast<std::int64_t>(std::bit_floor(static_cast<std::uint64_t>(num_heads)));
  std::vector<double> slopes;
  append_powers(slopes, below, at::arange(1, 1 + below, at::kInt));
  const std::int64_t rest = std::min(below, num_heads - below);
  if (rest > 0) append_powers(slopes, 2 * below, at::arange(1, 1 + 2 * rest, 2, at::kInt));
  return slopes;
}

}  // namespace spectrace
