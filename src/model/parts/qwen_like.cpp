#include "qwen_like.hpp"

namespace spectrace {

void set_qwen_windows(LlamaLike& llama, ConfigFields& fields) {
  const bool used = fields.flag("use_sliding_window", false);
  const auto window = fields.window("sliding_window", 4096);
  const auto first = fields.find("max_window_layers");
  const std::int64_t first_layer = first ? first->as_int() : 28;
  auto sliding = fields.sliding_layers(llama.model.num_layers);
  if (!used || !window) return;
  if (!sliding) {
    sliding.emplace();
    for (std::int64_t i = 0; i < llama.model.num_layers; ++i) sliding->push_back(i >= first_layer);
  }
  set_sliding_window(llama, *window, sliding);
}

}  // namespace spectrace
