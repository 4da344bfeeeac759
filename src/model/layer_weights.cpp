#include "spectrace/model/layer_weights.hpp"

#include <ATen/ATen.h>

#include <optional>
#include <string>
#include <vector>

#include "device_copies.hpp"
#include "weight_reader.hpp"

namespace spectrace {

Tensor WeightReader::read(const TensorSource& source) {
  if (source.tensor != last_name_) {
    last_ = read_stored(source.tensor);
    last_name_ = source.tensor;
  }
  Tensor tensor = source.transposed ? last_.t() : last_;
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

namespace {

/// In float32; nothing if a value is too large for it: reading it says which.
std::optional<Tensor> as_float32(const Tensor& matrix) {
  Tensor converted = matrix.to(at::kFloat);
  if (!at::isfinite(converted).all().item<bool>()) return std::nullopt;
  return converted;
}

}  // namespace

LayerWeights read_layer(const ModelDescription& model, const TensorStore& store, std::int64_t layer, ComputeType type,
                        const AttentionWeights* read_already, Widening widening) {
  const LayerSources& sources = model.layers.at(static_cast<std::size_t>(layer));
  WeightReader reader(store, type, widening);
  LayerWeights weights;
  // Weights first, then biases: a fused matrix is read once for all its parts.
  const std::pair<Linear*, const LinearSource*> projections[] = {
      {&weights.w_q, &sources.w_q}, {&weights.w_k, &sources.w_k}, {&weights.w_v, &sources.w_v}};
  const auto matrix = [&](const Tensor* already, const TensorSource& source) {
    std::optional<Tensor> converted;
    if (already != nullptr) converted = as_float32(*already);
    return converted ? *converted : reader.read(source);
  };
  const AttentionWeights* const there = read_already;
  weights.w_q.weight = matrix(there ? &there->w_q : nullptr, sources.w_q.weight);
  weights.w_k.weight = matrix(there ? &there->w_k : nullptr, sources.w_k.weight);
  weights.w_v.weight = matrix(there ? &there->w_v : nullptr, sources.w_v.weight);
  for (const auto& [linear, source] : projections)
    if (source->bias) linear->bias = reader.read(*source->bias);
  weights.w_o.weight = matrix(there ? &there->w_o : nullptr, sources.w_o.weight);
  if (sources.w_o.bias) weights.w_o.bias = reader.read(*sources.w_o.bias);
  weights.query_norm = reader.read_optional(sources.query_norm);
  weights.key_norm = reader.read_optional(sources.key_norm);
  weights.attention_input_norm = reader.read_optional(sources.attention_input_norm);
  weights.attention_output_norm = reader.read_optional(sources.attention_output_norm);
  weights.mlp_input_norm = reader.read_optional(sources.mlp_input_norm);
  weights.mlp_output_norm = reader.read_optional(sources.mlp_output_norm);
  if (sources.mlp_gate) {
    weights.mlp_gate.emplace().weight = reader.read(sources.mlp_gate->weight);
    weights.mlp_up.weight = reader.read(sources.mlp_up.weight);
    if (sources.mlp_gate->bias) weights.mlp_gate->bias = reader.read(*sources.mlp_gate->bias);
    if (sources.mlp_up.bias) weights.mlp_up.bias = reader.read(*sources.mlp_up.bias);
  } else {
    weights.mlp_up = reader.read(sources.mlp_up);
  }
  weights.mlp_down = reader.read(sources.mlp_down);
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
  there.w_q = copies.of(host.w_q);
  there.w_k = copies.of(host.w_k);
  there.w_v = copies.of(host.w_v);
  there.w_o = copies.of(host.w_o);
  there.query_norm = copies.of(host.query_norm);
  there.key_norm = copies.of(host.key_norm);
  there.attention_input_norm = copies.of(host.attention_input_norm);
  there.attention_output_norm = copies.of(host.attention_output_norm);
  there.mlp_input_norm = copies.of(host.mlp_input_norm);
  there.mlp_output_norm = copies.of(host.mlp_output_norm);
  there.mlp_gate = copies.of(host.mlp_gate);
  there.mlp_up = copies.of(host.mlp_up);
  there.mlp_down = copies.of(host.mlp_down);
  return there;
}

AttentionWeights widened(const AttentionWeights& read, ComputeType type) {
  DeviceCopies copies(Device::cpu(), type);
  return {copies.of(read.w_q), copies.of(read.w_k), copies.of(read.w_v), copies.of(read.w_o)};
}

AttentionWeights read_attention_weights(const ModelDescription& model, const TensorStore& store, std::int64_t layer,
                                        ComputeType type) {
  const LayerSources& sources = model.layers.at(static_cast<std::size_t>(layer));
  WeightReader reader(store, type);
  AttentionWeights weights;
  weights.w_q = reader.read(sources.w_q.weight);
  weights.w_k = reader.read(sources.w_k.weight);
  weights.w_v = reader.read(sources.w_v.weight);
  weights.w_o = reader.read(sources.w_o.weight);
  return weights;
}

AttentionWeights attention_weights(const LayerWeights& layer) {
  return {layer.w_q.weight, layer.w_k.weight, layer.w_v.weight, layer.w_o.weight};
}

std::int64_t layer_size_bytes(const ModelDescription& model, std::int64_t layer, ComputeType type) {
  ModelDescription one;
  one.layers.push_back(model.layers.at(static_cast<std::size_t>(layer)));
  std::int64_t elements = 0;
  for (const TensorSource* source : one.all_sources()) {
    if (source->tensor.empty()) continue;  // the embedding that `one` has not
    std::int64_t product = 1;
    for (const std::int64_t size : source->canonical_shape()) product *= size;
    elements += product;
  }
  return elements * (type == ComputeType::float64 ? 8 : 4);
}

}  // namespace spectrace
