#include "../parts/cohere_like.hpp"

namespace spectrace {
namespace {

/// Fields of the hub's files that transformers does not read: they must say what it takes for granted.
void expect_block(ConfigFields& fields) {
  for (const char* name : {"use_parallel_block", "use_gated_activation"})
    if (!fields.flag(name, true))
      throw fields.json().error("the field '" + std::string(name) + "' is false", "no Cohere model has that block");
  const std::string positions = fields.text({"position_embedding_type"}, "rope_gptj");
  if (positions != "rope_gptj")
    throw fields.json().error("unknown positions '" + positions + "' in the field 'position_embedding_type'",
                              "known: 'rope_gptj'");
}

/// True for layers with a window: as layer_types says, else all but every fourth, or every sliding_window_pattern-th.
std::vector<bool> windowed_layers(ConfigFields& fields, std::int64_t num_layers) {
  const std::int64_t pattern = fields.count_or({"sliding_window_pattern"}, 4);
  auto windowed = fields.sliding_layers(num_layers);
  if (windowed) return *windowed;
  windowed.emplace();
  for (std::int64_t i = 0; i < num_layers; ++i) windowed->push_back((i + 1) % pattern != 0);
  return *windowed;
}

}  // namespace

/// Cohere's Command R7B and A (2025, arXiv:2504.00698): rotary positions in the layers with a window, none in the
/// others.
ModelDescription describe_cohere2(ConfigFields& fields, const TensorStore& store) {
  LlamaLike llama = read_cohere_like(fields, 10000.0);
  expect_block(fields);
  const auto windowed = windowed_layers(fields, llama.model.num_layers);
  const auto window = fields.window("sliding_window", 4096);
  if (!window)
    throw fields.json().error("the field 'sliding_window' is null", "the layers of Cohere-2 with rope have a window");
  set_sliding_window(llama, *window, windowed);
  for (std::size_t i = 0; i < windowed.size(); ++i)
    if (!windowed[i]) llama.model.attention[i].rotary.reset();
  const Bias bias = fields.flag("attention_bias", false) ? Bias::yes : Bias::no;
  const bool tied = fields.tied(true);

  const SourceNames names = llama_names(store);
  for (std::int64_t i = 0; i < llama.model.num_layers; ++i)
    llama.model.layers.push_back(cohere_layer(llama, names, i, bias));
  set_llama_embedding(llama, names, tied);
  return llama.model;
}

FamilyClass class_of_cohere2() { return {"Cohere2ForCausalLM"}; }

}  // namespace spectrace
