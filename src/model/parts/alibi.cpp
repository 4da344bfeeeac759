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

std::vector<double> alibi_slopes(std::int64_t num_heads, std::int64_t bias_max) {
  const auto above = static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(num_heads)));
  const double step = static_cast<double>(bias_max) / static_cast<double>(above);
  const at::Tensor exponents = at::arange(1, above + 1, at::kLong).to(at::kFloat) * step;
  at::Tensor slopes = 1.0 / at::pow(2, exponents);
  if (above != num_heads) slopes = at::cat({slopes.slice(0, 1, std::nullopt, 2), slopes.slice(0, 0, std::nullopt, 2)});
  const at::Tensor taken = slopes.narrow(0, 0, num_heads).to(at::kDouble).contiguous();
  return {taken.const_data_ptr<double>(), taken.const_data_ptr<double>() + num_heads};
}

}  // namespace spectrace
