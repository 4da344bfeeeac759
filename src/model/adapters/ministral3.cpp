#include "../parts/llama_like.hpp"

namespace spectrace {

namespace {

/// Positions of the training. Of yarn and its like a field beside the settings goes over that in them, and there is a
/// default.
std::int64_t positions_of_growth(const RopeReading& rope) {
  const std::string type = rope.settings->get_string("rope_type", rope.settings->get_string("type", "default"));
  if (type == "yarn" || type == "llama3" || type == "longrope") return rope.original_positions;
  const JsonNode node = rope.settings->at("original_max_position_embeddings");
  if (node.as_int() < 1) throw node.error("is " + std::to_string(node.as_int()) + ", expected at least 1");
  return node.as_int();
}

std::optional<QueryGrowth> read_query_growth(const RopeReading& rope) {
  const double beta = rope.settings->at("llama_4_scaling_beta").as_double();
  const std::int64_t positions = positions_of_growth(rope);
  if (beta == 0.0) return std::nullopt;
  return QueryGrowth{.beta = beta, .positions = positions};
}

}  // namespace

/// Ministral 3 (Mistral AI 2025, arXiv:2601.08584): Mistral with yarn, and queries that grow with their position, as in
/// Llama 4.
ModelDescription describe_ministral3(ConfigFields& fields, const TensorStore& store) {
  LlamaLike llama = read_llama_like(fields, {.hidden_size = 4096,
                                             .intermediate_size = 14336,
                                             .vocab_size = 131072,
                                             .num_layers = 34,
                                             .num_heads = 32,
                                             .num_kv_heads = 8,
                                             .head_dim = 128,
                                             .epsilon = 1e-5,
                                             .max_positions = 262144});
  const RopeFields rope_fields{
      .default_settings = R"({"type": "yarn", "rope_theta": 1000000.0, "factor": 16.0, "beta_fast": 32.0,
                              "beta_slow": 1.0, "mscale": 1.0, "mscale_all_dim": 1.0, "llama_4_scaling_beta": 0.1,
                              "original_max_position_embeddings": 16384})",
      .own_keys = {"llama_4_scaling_beta", "max_position_embeddings"}};
  const RopeReading rope = read_rope(fields, rope_fields, llama.model.head_dim, llama.model.max_positions);
  set_attention(llama, rope);
  const auto growth = read_query_growth(rope);
  for (AttentionSpec& attention : llama.model.attention) attention.query_growth = growth;
  const auto window = fields.window("sliding_window", std::nullopt);
  if (window) set_sliding_window(llama, *window, std::nullopt);
  fields.refuse_if_set("layer_types", "kinds of layers belong to the family Ministral");
  const bool tied = fields.tied(false);
  return with_llama_layers(std::move(llama), store, {}, tied);
}

FamilyClass class_of_ministral3() { return {"Ministral3ForCausalLM"}; }

}  // namespace spectrace
