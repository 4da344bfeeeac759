#include "layer_ropes.hpp"

namespace spectrace {

LayerRopes read_layer_ropes(ConfigFields& fields, double full_theta, double sliding_theta, const LlamaLike& llama) {
  const auto scaling = fields.find("rope_scaling"), parameters = fields.find("rope_parameters");
  auto full = parameters ? parameters->find("full_attention") : std::nullopt;
  const auto sliding = parameters ? parameters->find("sliding_attention") : std::nullopt;
  if (parameters) parameters->expect_only_keys({"full_attention", "sliding_attention"});
  if (scaling && scaling->size() > 0) {
    if (full) full_theta = as_scale_or(*full, "rope_theta", full_theta);
    full = scaling;
  }
  const auto read = [&](const std::optional<JsonNode>& settings, double theta) {
    return read_rope_settings(fields, settings, theta, 1.0, 0, llama.model.head_dim, llama.model.max_positions);
  };
  return {read(full, full_theta), read(sliding, sliding_theta)};
}

void set_attention(LlamaLike& llama, const LayerRopes& ropes, const std::vector<bool>& sliding) {
  set_attention(llama, ropes.full);
  for (const auto& [name, value] : ropes.sliding.facts) llama.model.rope_facts.emplace_back("sliding_" + name, value);
  for (std::size_t i = 0; i < sliding.size(); ++i)
    if (sliding[i]) llama.model.attention[i].rotary = ropes.sliding.rotary;
}

}  // namespace spectrace
