#include "../parts/qwen_like.hpp"

namespace spectrace {

/// Qwen3 (2025, arXiv:2505.09388): Llama with norms on the queries and keys of each head.
ModelDescription describe_qwen3(ConfigFields& fields, const TensorStore& store) {
  LlamaLike llama = read_llama_like(fields, {.hidden_size = 4096,
                                             .intermediate_size = 22016,
                                             .vocab_size = 151936,
                                             .num_layers = 32,
                                             .num_heads = 32,
                                             .num_kv_heads = 32,
                                             .head_dim = 128,
                                             .max_positions = 32768});
  set_attention(llama, read_rope(fields, {}, llama.model.head_dim, llama.model.max_positions));
  set_qwen_windows(llama, fields);
  return describe_qwen3_like(fields, store, std::move(llama));
}

FamilyClass class_of_qwen3() { return {"Qwen3ForCausalLM"}; }

}  // namespace spectrace
