#include "config_fields.hpp"

#include <algorithm>
#include <array>
#include <utility>

namespace spectrace {
namespace {

constexpr std::array<std::pair<const char*, Activation>, 9> kActivations = {{
    {"relu", Activation::relu},
    {"gelu", Activation::gelu},
    {"gelu_python", Activation::gelu},
    {"gelu_new", Activation::gelu_tanh},
    {"gelu_fast", Activation::gelu_tanh},
    {"gelu_pytorch_tanh", Activation::gelu_tanh},
    {"gelu_accurate", Activation::gelu_tanh},
    {"silu", Activation::silu},
    {"swish", Activation::silu},
}};

/// Fields that change the forward pass in some family or in a derived model. One of them in the config of a family
/// whose adapter does not read it, switched on, means that the checkpoint is not what its model_type says.
constexpr std::array kMathematicalFields = {
    "alibi",
    "attention_multiplier",
    "attn_logit_softcapping",
    "attn_temperature_tuning",
    "clip_qkv",
    "cross_attention",
    "dense_attention_every_n_layers",
    "embedding_multiplier",
    "final_logit_softcapping",
    "is_encoder_decoder",
    "kv_lora_rank",
    "logits_scaling",
    "logit_scale",
    "moe_intermediate_size",
    "mup_use_scaling",
    "n_routed_experts",
    "no_rope_layers",
    "num_experts",
    "num_local_experts",
    "parallel_attn",
    "parallel_block",
    "partial_rotary_factor",
    "per_layer_config",
    "position_embedding_type",
    "q_lora_rank",
    "qk_layernorm",
    "qk_norm",
    "query_pre_attn_scalar",
    "residual_multiplier",
    "rotary_pct",
    "scale_attn_by_inverse_layer_idx",
    "scale_depth",
    "scale_emb",
    "use_bidirectional_attention",
    "use_parallel_residual",
    "use_qk_norm",
};

/// Whether a field's value leaves the mathematics as it is: null, false, 0, 1 (a multiplier), empty, "absolute".
bool is_off(const JsonNode& value) {
  if (value.is_bool()) return !value.as_bool();
  if (value.is_number()) return value.as_double() == 0.0 || value.as_double() == 1.0;
  if (value.is_string()) return value.as_string().empty() || value.as_string() == "absolute";
  return value.size() == 0;
}

std::string joined(ConfigFields::Names names) {
  std::string text;
  for (const char* name : names) text += (text.empty() ? "'" : " or '") + std::string(name) + "'";
  return text;
}

}  // namespace

std::optional<JsonNode> ConfigFields::find(const char* name) {
  read_.insert(name);
  return config_.find(name);
}

std::int64_t ConfigFields::size(Names names) {
  const std::int64_t value = size_or(names, 0);
  if (value == 0) throw config_.error("the field " + joined(names) + " is missing", "the model type is " + family_);
  return value;
}

std::int64_t ConfigFields::size_or(Names names, std::int64_t otherwise) {
  std::optional<JsonNode> found;
  for (const char* name : names) {
    auto node = find(name);
    if (node && !found) found = node;
  }
  if (!found) return otherwise;
  const std::int64_t value = found->as_int();
  if (value < 1) throw found->error("is " + std::to_string(value) + ", expected at least 1");
  return value;
}

bool ConfigFields::is_null(const char* name) {
  read_.insert(name);
  const auto it = config_.json().find(name);
  return it != config_.json().end() && it->is_null();
}

std::optional<double> ConfigFields::optional_number(const char* name, std::optional<double> otherwise) {
  if (is_null(name)) return std::nullopt;
  const auto node = find(name);
  if (!node) return otherwise;
  const double value = node->as_double();
  if (!(value > 0.0)) throw node->error("is " + node->json().dump() + ", expected a positive number or null");
  return value;
}

bool ConfigFields::flag(const char* name, bool otherwise) {
  const auto node = find(name);
  return node ? node->as_bool() : otherwise;
}

double ConfigFields::number(const char* name, double otherwise) {
  const auto node = find(name);
  return node ? node->as_double() : otherwise;
}

std::string ConfigFields::text(Names names, const std::string& otherwise) {
  std::optional<JsonNode> found;
  for (const char* name : names) {
    auto node = find(name);
    if (node && !found) found = node;
  }
  return found ? found->as_string() : otherwise;
}

Activation ConfigFields::activation(Names names, const std::string& otherwise) {
  const std::string wanted = text(names, otherwise);
  std::vector<std::string> known;
  for (const auto& [name, activation] : kActivations) {
    if (wanted == name) return activation;
    known.emplace_back(name);
  }
  throw config_.error("unknown activation '" + wanted + "' in the field " + joined(names),
                      "known: " + quoted_list(known));
}

double ConfigFields::epsilon(const char* name, double otherwise) {
  const double value = number(name, otherwise);
  if (!(value > 0.0 && value < 1.0))
    throw config_.error("the field '" + std::string(name) + "' is " + std::to_string(value),
                        "an epsilon lies between 0 and 1");
  return value;
}

void ConfigFields::check_heads(std::int64_t num_heads, std::int64_t num_kv_heads, const char* kv_field) const {
  if (num_heads % num_kv_heads != 0)
    throw config_.error(
        std::to_string(num_kv_heads) + " key/value heads do not divide " + std::to_string(num_heads) + " heads",
        std::string("from ") + kv_field);
}

std::int64_t ConfigFields::divided_head_dim(std::int64_t hidden_size, std::int64_t num_heads) const {
  if (hidden_size % num_heads != 0)
    throw config_.error("the hidden size " + std::to_string(hidden_size) + " is not a multiple of the " +
                        std::to_string(num_heads) + " heads");
  return hidden_size / num_heads;
}

std::optional<std::vector<bool>> ConfigFields::sliding_layers(std::int64_t num_layers) {
  const auto node = find("layer_types");
  if (!node) return std::nullopt;
  std::vector<bool> sliding;
  node->for_each([&](const JsonNode& entry) {
    const std::string& kind = entry.as_string();
    if (kind != "sliding_attention" && kind != "full_attention")
      throw entry.error("unknown kind of layer '" + kind + "'", "known: 'full_attention', 'sliding_attention'");
    sliding.push_back(kind == "sliding_attention");
  });
  if (std::cmp_not_equal(sliding.size(), num_layers))
    throw node->error("has " + std::to_string(sliding.size()) + " entries for " + std::to_string(num_layers) +
                      " layers");
  return sliding;
}

void ConfigFields::refuse_if_set(const char* name, const std::string& why) {
  const auto node = find(name);
  if (node && !is_off(*node))
    throw config_.error("the field '" + std::string(name) + "' is " + node->json().dump() + ", which the family " +
                            family_ + " does not support here",
                        why);
}

void ConfigFields::expect_understood() const {
  if (!config_.get_bool("is_causal", true))
    throw config_.error("the field 'is_causal' is false", "only causal attention is supported");
  std::vector<std::string> strange;
  config_.for_each_member([&](const std::string& key, const JsonNode& value) {
    const bool changes_mathematics =
        std::find(kMathematicalFields.begin(), kMathematicalFields.end(), key) != kMathematicalFields.end();
    if (changes_mathematics && !read_.contains(key) && !value.is_null() && !is_off(value)) strange.push_back(key);
  });
  if (!strange.empty())
    throw config_.error("the family " + family_ + " has no field " + quoted_list(strange),
                        "elsewhere such a field changes the forward pass, so it is not ignored",
                        "If the field means nothing in this model, remove it from config.json.");
}

}  // namespace spectrace
