#pragma once

#include "llama_like.hpp"

namespace spectrace {

/// What GLM and GLM-4 share, layers and all: Llama with gate and up in one matrix, biases on q, k and v, rotary on
/// pairs of neighbours in a share of each head.
LlamaLike describe_glm_like(ConfigFields& fields, const TensorStore& store);

}  // namespace spectrace
