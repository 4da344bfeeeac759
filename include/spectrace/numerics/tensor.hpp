#pragma once

#include <ATen/ATen.h>

#include <string>

namespace spectrace {

/// Every tensor in spectrace. Its shape stands at the end of the declaration: `Tensor w_v;  // [kv_heads, d, hidden]`.
using Tensor = at::Tensor;

/// The two types the forward pass runs in. Spectra and sums are float64 whatever this is.
enum class ComputeType { float32, float64 };

at::ScalarType scalar_type(ComputeType type);
inline std::int64_t element_size_bytes(ComputeType type) { return type == ComputeType::float64 ? 8 : 4; }
const char* name(ComputeType type);
/// @throws InputError (usage) naming what is allowed.
ComputeType parse_compute_type(const std::string& text);

/// Sets the threads of this process (core/parallel.hpp) and pins libtorch and its BLAS to one thread inside each task:
/// the bits of a matrix product would otherwise depend on how many threads share it.
void set_compute_threads(int num_threads);

}  // namespace spectrace
