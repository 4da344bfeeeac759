#pragma once

#include "llama_like.hpp"

namespace spectrace {

/// Qwen's windows: off unless use_sliding_window, then in the layers from max_window_layers (absent: first_layer) on,
/// or as layer_types says.
void set_qwen_windows(LlamaLike& llama, ConfigFields& fields, std::int64_t first_layer = 28);

/// Of Qwen2's own class.
LlamaDefaults qwen2_defaults();
/// Qwen2's block: Llama's with biases on q, k and v.
ModelDescription describe_qwen2_like(ConfigFields& fields, const TensorStore& store, const LlamaDefaults& defaults,
                                     const RopeFields& rope, std::int64_t first_window_layer);
/// The text model of Qwen2-VL and Qwen2.5-VL: Qwen2 with defaults of its own.
ModelDescription describe_qwen2_vl_like(ConfigFields& fields, const TensorStore& store);

/// Qwen3's block, without windows: Llama's with norms on the queries and keys of each head.
ModelDescription describe_qwen3_like(ConfigFields& fields, const TensorStore& store, LlamaLike llama);

}  // namespace spectrace
