#include "spectrace/model/layer_weights.hpp"

#include <ATen/ATen.h>

#include <optional>
#include <string>
#include <vector>

#include "device_copies.hpp"
#include "spectrace/core/error.hpp"
#include "weight_reader.hpp"

namespace spectrace {

Tensor WeightReader::read(const TensorSource& source) {
  Last& last = source.shape.size() > 1 ? last_matrix_ : last_vector_;
  if (source.tensor != last.name) last = {source.tensor, read_stored(source.tensor)};
  Tensor tensor = source.transposed ? last.tensor.t() : last.tensor;
  if (!source.stacked.empty()) {
    std::vector<Tensor> rows = {tensor};
    for (const auto& name : source.stacked) rows.push_back(read_stored(name));
    return at::stack(rows);
  }
  if (source.rows.empty()) return tensor;
  std::vector<Tensor> parts;
  for (const RowRange& range : source.rows) parts.push_back(tensor.narrow(0, range.first, range.count));
  return parts.size() == 1 ? parts[0] : at::cat(parts);
}

Tensor WeightReader::read_stored(const std::string& name) const {
  const TensorInfo* info = store_.find(name);
  if (!info)
    throw InputError(ErrorKind::model, store_.folder().string() + ": tensor '" + name + "' is not in the checkpoint");
  return store_.read(*info, type_, widening_);
}

Linear WeightReader::read(const LinearSource& source) {
  Linear linear;
  linear.weight = read(source.weight);
  if (source.bias) linear.bias = read(*source.bias);
  return linear;
}

Norm WeightReader::read(const NormSource& source) {
  Norm norm;
  if (source.weight) norm.weight = read(*source.weight);
  if (source.bias) norm.bias = read(*source.bias);
  return norm;
}

Xielu WeightReader::read(const XieluSource& source) {
  return {read(source.alpha_p), read(source.alpha_n), read(source.beta), read(source.eps)};
}

namespace {

/// In a narrower type; nothing if a value is too large for it: reading it says which.
std::optional<Tensor> narrowed(const Tensor& matrix, ComputeType type) {
  Tensor converted = matrix.to(scalar_type(type));
  if (!at::isfinite(converted).all().item<bool>()) return std::nullopt;
  return converted;
}

}  // namespace

const Tensor& LayerMatrices::at(MatrixRole role) const {
  SPECTRACE_ASSERT(has(role));
  return matrices_[static_cast<std::size_t>(role)];
}

LayerWeights read_layer(const ModelDescription& model, const TensorStore& store, std::int64_t layer, ComputeType type,
                        const LayerMatrices* wide, Widening widening) {
  const LayerSources& sources = model.layers.at(static_cast<std::size_t>(layer));
  WeightReader reader(store, type, widening);
  LayerWeights weights;
  const auto read = [&](MatrixRole role, const LinearSource& source) {
    Linear linear;
    std::optional<Tensor> converted;
    if (wide != nullptr && wide->has(role)) converted = narrowed(wide->at(role), type);
    linear.weight = converted ? *converted : reader.read(source.weight);
    if (source.bias) linear.bias = reader.read(*source.bias);
    return linear;
  };
  for_each_part(
      sources, weights,
      [&](MatrixRole role, const LinearSource& source, Linear& linear) { linear = read(role, source); },
      [&](const auto& source, auto& part) {
        if (source) part = reader.read(*source);
      });
  return weights;
}

Tensor DeviceCopies::of(const Tensor& host) {
  if (device_.is_host() && host.scalar_type() == type_) return host;
  Tensor& flat = brought_[host.storage().unsafeGetStorageImpl()];
  if (!flat.defined()) {
    const auto size = static_cast<std::int64_t>(host.storage().nbytes() / host.element_size());
    flat = device_.bring(host.as_strided({size}, {1}, 0), type_);
  }
  return flat.as_strided(host.sizes(), host.strides(), host.storage_offset());
}

LayerWeights on_device(const LayerWeights& host, const Device& device, ComputeType type) {
  DeviceCopies copies(device, type);
  LayerWeights there;
  for_each_part(
      host, there, [&](MatrixRole, const Linear& from, Linear& to) { to = copies.of(from); },
      [&](const auto& from, auto& to) { to = copies.of(from); });
  return there;
}

LayerMatrices widened(const LayerMatrices& read, ComputeType type) {
  DeviceCopies copies(Device::cpu(), type);
  LayerMatrices wide;
  for (std::size_t role = 0; role < kNumMatrixRoles; ++role)
    if (const auto which = static_cast<MatrixRole>(role); read.has(which)) wide.set(which, copies.of(read.at(which)));
  return wide;
}

ReadMatrices read_matrices(const ModelDescription& model, const TensorStore& store, std::int64_t layer,
                           const MatrixRoles& roles, ComputeType type) {
  const LayerSources& sources = model.layers.at(static_cast<std::size_t>(layer));
  WeightReader reader(store, type);
  ReadMatrices read;
  for (const MatrixRole role : roles) {
    try {
      read.matrices.set(role, reader.read(source_of(sources, role).weight));
    } catch (...) {
      read.errors.emplace(role, std::current_exception());
    }
  }
  return read;
}

LayerMatrices matrices_of(const LayerWeights& layer, const MatrixRoles& roles) {
  LayerMatrices matrices;
  for_each_part(
      layer,
      [&](MatrixRole role, const Linear& linear) {
        if (has_role(roles, role)) matrices.set(role, linear.weight);
      },
      [](const auto&) {});
  return matrices;
}

std::int64_t layer_size_bytes(const ModelDescription& model, std::int64_t layer, ComputeType type) {
  return num_elements(model.layers.at(static_cast<std::size_t>(layer))) * element_size_bytes(type);
}

}  // namespace spectrace
