#include "../parts/qwen_like.hpp"

namespace spectrace {

/// The text model of Qwen3-VL (2025, arXiv:2511.21631): Qwen3 without windows, with defaults of its own.
ModelDescription describe_qwen3_vl_text(ConfigFields& fields, const TensorStore& store) {
  LlamaLike llama = read_llama_like(fields, {.hidden_size = 4096,
                                             .intermediate_size = 22016,
                                             .vocab_size = 151936,
                                             .num_layers = 32,
                                             .num_heads = 32,
                                             .num_kv_heads = 32,
                                             .head_dim = 128,
                                             .max_positions = 128000});
  set_attention(llama, read_rope(fields, {.default_theta = 5e5}, llama.model.head_dim, llama.model.max_positions));
  return describe_qwen3_like(fields, store, std::move(llama));
}

FamilyClass class_of_qwen3_vl_text() { return {"Qwen3VLForConditionalGeneration"}; }

}  // namespace spectrace
