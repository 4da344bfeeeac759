#pragma once

#include "llama_like.hpp"

namespace spectrace {

/// Qwen's windows: off unless use_sliding_window, then in the layers from max_window_layers on (or as layer_types
/// says).
void set_qwen_windows(LlamaLike& llama, ConfigFields& fields);

}  // namespace spectrace
