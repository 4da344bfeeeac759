#include "spectrace/model/layer_parts.hpp"

#include <algorithm>

#include "spectrace/core/error.hpp"

namespace spectrace {
namespace {

const LinearSource* find_source(const LayerSources& layer, MatrixRole role) {
  const LinearSource* source = nullptr;
  for_each_part(
      layer,
      [&](MatrixRole other, const LinearSource& linear) {
        if (other == role) source = &linear;
      },
      [](const auto&) {});
  return source;
}

}  // namespace

bool has_matrix(const LayerSources& layer, MatrixRole role) {
  const LinearSource* source = find_source(layer, role);
  return source != nullptr && !source->weight.tensor.empty();
}

const LinearSource& source_of(const LayerSources& layer, MatrixRole role) {
  const LinearSource* source = find_source(layer, role);
  SPECTRACE_ASSERT(source != nullptr);
  return *source;
}

std::int64_t num_elements(const TensorSource& source) {
  std::int64_t count = 1;
  for (const std::int64_t size : source.canonical_shape()) count *= size;
  return count;
}

std::int64_t num_elements(const LayerSources& layer) {
  std::int64_t count = 0;
  for (const TensorSource* source : all_sources(layer)) count += num_elements(*source);
  return count;
}

std::int64_t most_matrix_elements(const ModelDescription& model, const MatrixRoles& roles) {
  std::int64_t most = 0;
  for (const LayerSources& layer : model.layers) {
    std::int64_t count = 0;
    for (const MatrixRole role : roles)
      if (has_matrix(layer, role)) count += num_elements(source_of(layer, role).weight);
    most = std::max(most, count);
  }
  return most;
}

}  // namespace spectrace
