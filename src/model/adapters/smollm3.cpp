#include <algorithm>
#include <utility>

#include "../parts/llama_like.hpp"

namespace spectrace {

namespace {

/// Marks the layers that turn their queries and keys: where no_rope_layers has a 1 (so it is, in spite of its name), or
/// all but the n-th, the 2n-th, ….
std::vector<bool> read_rotary_layers(ConfigFields& fields, std::int64_t num_layers) {
  const std::int64_t interval = fields.count_or({"no_rope_layer_interval"}, 4);
  const auto node = fields.find("no_rope_layers");
  if (!node) return sliding_but_every(interval, num_layers);
  std::vector<bool> turned;
  node->for_each([&](const JsonNode& entry) { turned.push_back(entry.as_int() != 0); });
  if (std::cmp_less(turned.size(), num_layers))
    throw node->error("has " + std::to_string(turned.size()) + " entries for " + std::to_string(num_layers) +
                      " layers");
  return turned;
}

}  // namespace

/// SmolLM3 (Hugging Face 2025): Llama without rotary in every fourth layer.
ModelDescription describe_smollm3(ConfigFields& fields, const TensorStore& store) {
  LlamaLike llama = read_llama_like(fields, {.num_kv_heads = 4, .max_positions = 32768});
  const std::int64_t num_layers = llama.model.num_layers;
  set_attention(llama, read_rope(fields, {.default_theta = 2e6}, llama.model.head_dim, llama.model.max_positions));
  const std::vector<bool> turned = read_rotary_layers(fields, num_layers);
  const bool uses_windows = fields.flag("use_sliding_window", false);
  const auto window = fields.window("sliding_window", std::nullopt);
  auto sliding = fields.sliding_layers(num_layers);
  if (sliding && window && !uses_windows && std::find(sliding->begin(), sliding->end(), true) != sliding->end())
    throw fields.json().error("layer_types has layers with a window, and use_sliding_window is false",
                              "transformers' kinds of attention differ in which of the two counts");
  if (!sliding) {  // those without rotary
    sliding.emplace();
    for (std::int64_t i = 0; i < num_layers; ++i) sliding->push_back(!turned[static_cast<std::size_t>(i)]);
  }
  if (window && uses_windows) set_sliding_window(llama, *window, sliding);
  for (std::size_t i = 0; i < llama.model.attention.size(); ++i)
    if (!turned[i]) llama.model.attention[i].rotary.reset();
  LlamaBiases biases = read_attention_biases(fields);
  if (fields.flag("mlp_bias", false)) biases.mlp = Bias::yes;
  const bool tied = fields.tied(true);
  return with_llama_layers(std::move(llama), store, biases, tied);
}

FamilyClass class_of_smollm3() { return {"SmolLM3ForCausalLM"}; }

}  // namespace spectrace
