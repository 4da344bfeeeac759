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
  if (const auto& latent = layer.latent) {
    const auto optional = [](const std::optional<LinearSource>& matrix) { return matrix ? &*matrix : nullptr; };
    switch (role) {
      case MatrixRole::w_dq: return optional(latent->w_dq);
      case MatrixRole::w_uq: return optional(latent->w_uq);
      case MatrixRole::w_dkv: return &latent->w_dkv;
      case MatrixRole::w_kr: return &latent->w_kr;
      case MatrixRole::w_uk: return &latent->w_uk;
      case MatrixRole::w_uv: return &latent->w_uv;
      default: break;
    }
  }
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
  std::size_t of_experts = 0;  // the last ones; several may lie in one tensor
  const auto add = [&](const PartSource& part) {
    count += part.num_rows() * part.num_columns();
    ++of_experts;
  };
  for (const ExpertSources& expert : layer.experts) {
    if (expert.gate) add(*expert.gate);
    add(expert.up);
    add(expert.down);
  }
  const auto sources = all_sources(layer);
  for (std::size_t i = 0; i + of_experts < sources.size(); ++i) count += num_elements(*sources[i]);
  return count;
}

MatrixRoles roles_in(const LayerSources& layer, const MatrixRoles& roles) {
  MatrixRoles there;
  for (const MatrixRole role : roles)
    if (has_matrix(layer, role)) there.push_back(role);
  return there;
}

MatrixRoles roles_in(const ModelDescription& model, const MatrixRoles& roles) {
  MatrixRoles there;
  for (const MatrixRole role : roles)
    if (std::any_of(model.layers.begin(), model.layers.end(),
                    [&](const LayerSources& layer) { return has_matrix(layer, role); }))
      there.push_back(role);
  return there;
}

std::vector<std::int64_t> layers_without_attention(const ModelDescription& model) {
  std::vector<std::int64_t> without;
  for (std::int64_t layer = 0; layer < std::ssize(model.layers); ++layer)
    if (roles_in(model.layers[static_cast<std::size_t>(layer)], all_attention_roles()).empty())
      without.push_back(layer);
  return without;
}

bool exceeds_float32(const ModelDescription& model, std::int64_t layer) {
  const LayerSources& sources = model.layers.at(static_cast<std::size_t>(layer));
  const auto is_wide = [&](MatrixRole role) {
    const TensorInfo* tensor =
        has_matrix(sources, role) ? model.find_tensor(source_of(sources, role).weight.tensor) : nullptr;
    return tensor != nullptr && tensor->exceeds_float32();
  };
  for (std::size_t role = 0; role < kNumMatrixRoles; ++role)
    if (is_wide(static_cast<MatrixRole>(role))) return true;
  return false;
}

const TensorSource* first_matrix(const ModelDescription& model) {
  for (const LayerSources& layer : model.layers)
    for (const TensorSource* source : all_sources(layer))
      if (source->shape.size() > 1) return source;
  return nullptr;
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
