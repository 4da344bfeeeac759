#include "../parts/llama_like.hpp"

namespace spectrace {

/// Code World Model (Meta 2025, arXiv:2510.02387): Llama 3 with a window in three layers of four.
ModelDescription describe_cwm(ConfigFields& fields, const TensorStore& store) {
  LlamaLike llama =
      read_llama_like(fields, {.num_kv_heads = 8, .head_dim = 128, .epsilon = 1e-5, .max_positions = 131072});
  const RopeFields rope_fields{
      .default_theta = 1e6,
      .default_settings = R"({"rope_type": "llama3", "rope_theta": 1000000.0, "factor": 16.0, "low_freq_factor": 1.0,
                              "high_freq_factor": 4.0, "original_max_position_embeddings": 8192})"};
  set_attention(llama, read_rope(fields, rope_fields, llama.model.head_dim, llama.model.max_positions));
  auto sliding = fields.sliding_layers(llama.model.num_layers);
  if (!sliding) {
    sliding.emplace();
    for (std::int64_t i = 0; i < llama.model.num_layers; ++i) sliding->push_back(i % 4 != 0);
  }
  const auto window = fields.window("sliding_window", 8192);
  if (window) set_sliding_window(llama, *window, sliding);
  LlamaBiases biases;
  if (fields.flag("mlp_bias", false)) biases.mlp = Bias::yes;
  const bool tied = fields.tied(false);
  return with_llama_layers(std::move(llama), store, biases, tied);
}

FamilyClass class_of_cwm() { return {"CwmForCausalLM"}; }

}  // namespace spectrace
