#include "spectrace/measure/quantity.hpp"

#include <numeric>

namespace spectrace {

std::int64_t size_of(const Coordinate& coordinate) {
  return std::visit([](const auto& values) { return static_cast<std::int64_t>(values.size()); }, coordinate);
}

Coordinate counted(std::int64_t size) {
  std::vector<std::int64_t> numbers(static_cast<std::size_t>(size));
  std::iota(numbers.begin(), numbers.end(), 0);
  return numbers;
}

std::vector<std::string> dims_of(const Quantity& quantity, const Extents& extents) {
  std::vector<std::string> dims = quantity.dims;
  if (!extents.contains(quantity.optional_dim)) std::erase(dims, quantity.optional_dim);
  return dims;
}

std::vector<std::int64_t> shape_of(const Quantity& quantity, const Extents& extents, const std::string& without) {
  std::vector<std::int64_t> shape;
  for (const auto& dim : dims_of(quantity, extents))
    if (dim != without) shape.push_back(extents.at(dim));
  return shape;
}

std::int64_t num_values(const Quantity& quantity, const Extents& extents, const std::string& without) {
  std::int64_t count = 1;
  for (const std::int64_t size : shape_of(quantity, extents, without)) count *= size;
  return count;
}

}  // namespace spectrace
