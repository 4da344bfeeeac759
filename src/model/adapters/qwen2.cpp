#include "../parts/qwen_like.hpp"

namespace spectrace {

/// Qwen2 and Qwen2.5 (2024, arXiv:2407.10671).
ModelDescription describe_qwen2(ConfigFields& fields, const TensorStore& store) {
  return describe_qwen2_like(fields, store,
                             {.hidden_size = 4096,
                              .intermediate_size = 22016,
                              .vocab_size = 151936,
                              .num_layers = 32,
                              .num_heads = 32,
                              .num_kv_heads = 32,
                              .max_positions = 32768},
                             {}, /*first_window_layer=*/28);
}

}  // namespace spectrace
