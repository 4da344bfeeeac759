#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <random>
#include <vector>

namespace spectrace {

/// A matrix of independent standard normal entries, float64.
inline at::Tensor gaussian(std::int64_t rows, std::int64_t columns, std::uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<double> normal;
  std::vector<double> entries(static_cast<std::size_t>(rows * columns));
  for (double& entry : entries) entry = normal(random);
  return at::tensor(entries, at::kDouble).reshape({rows, columns});
}

}  // namespace spectrace
