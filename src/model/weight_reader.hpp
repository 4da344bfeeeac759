#pragma once

#include <optional>
#include <string>

#include "spectrace/model/layer_weights.hpp"

namespace spectrace {

/// Reads sources in canonical form. The matrix and the vector that were read last are kept, so that q, k and v are
/// views of one fused tensor.
class WeightReader {
 public:
  WeightReader(const TensorStore& store, ComputeType type, Widening widening = Widening::here)
      : store_(store), type_(type), widening_(widening) {}

  Tensor read(const TensorSource& source);  // [canonical_shape()]
  Linear read(const LinearSource& source);
  Norm read(const NormSource& source);
  Xielu read(const XieluSource& source);

 private:
  Tensor read_stored(const std::string& name) const;

  const TensorStore& store_;
  const ComputeType type_;
  const Widening widening_;
  struct Last {
    std::string name;
    Tensor tensor;
  };
  Last last_matrix_, last_vector_;
};

}  // namespace spectrace
