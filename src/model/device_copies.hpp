#pragma once

#include <map>
#include <optional>

#include "spectrace/model/layer_weights.hpp"
#include "spectrace/numerics/device.hpp"

namespace spectrace {

/// Weights on a device, in the compute type. What was read as one tensor is brought there as one, whatever views of it
/// there are, and the views keep their strides: products take the same paths as with the originals.
class DeviceCopies {
 public:
  DeviceCopies(const Device& device, ComputeType type) : device_(device), type_(scalar_type(type)) {}

  Tensor of(const Tensor& host);
  Linear of(const Linear& host) { return {of(host.weight), of(host.bias)}; }
  Norm of(const Norm& host) { return {of(host.weight), of(host.bias)}; }
  Xielu of(const Xielu& host) { return {of(host.alpha_p), of(host.alpha_n), of(host.beta), of(host.eps)}; }
  template <typename T>
  std::optional<T> of(const std::optional<T>& host) {
    return host ? std::optional<T>(of(*host)) : std::nullopt;
  }

 private:
  const Device device_;
  const at::ScalarType type_;
  std::map<const c10::StorageImpl*, Tensor> brought_;  // flat
};

}  // namespace spectrace
