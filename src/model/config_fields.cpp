#include "config_fields.hpp"

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include "spectrace/checkpoint/tensor_store.hpp"

namespace spectrace {
namespace {

/// What no model meets; a description that is sized by these takes some hundred megabytes. The largest models have 126
/// layers of 128 heads, or 64 heads of 256 dimensions.
constexpr std::int64_t kMostLayers = 10'000;
constexpr std::int64_t kMostHeadsInAll = 1'000'000;
constexpr std::int64_t kMostHeadDimInAll = 10'000'000;

constexpr std::array<std::pair<const char*, Activation>, 11> kActivations = {{
    {"relu", Activation::relu},
    {"relu2", Activation::relu_squared},
    {"gelu", Activation::gelu},
    {"gelu_python", Activation::gelu},
    {"gelu_new", Activation::gelu_tanh},
    {"gelu_fast", Activation::gelu_tanh},
    {"gelu_pytorch_tanh", Activation::gelu_tanh},
    {"gelu_accurate", Activation::gelu_tanh},
    {"quick_gelu", Activation::gelu_sigmoid},
    {"silu", Activation::silu},
    {"swish", Activation::silu},
}};

/// Fields that change the forward pass in some family or in a derived model. One of them in the config of a family
/// whose adapter does not read it, switched on, means that the checkpoint is not what its model_type says.
constexpr std::array kMathematicalFields = {
    "add_cross_attention",
    "alibi",
    "attention_head_type",
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
    "multi_query",
    "mup_use_scaling",
    "n_routed_experts",
    "no_rope_layer_interval",
    "no_rope_layers",
    "num_experts",
    "num_local_experts",
    "parallel_attn",
    "parallel_block",
    "partial_rotary_factor",
    "per_layer_config",
    "position_embedding_type",
    "post_norm",
    "q_lora_rank",
    "prefix_lm",
    "qk_layernorm",
    "qk_ln",
    "qk_norm",
    "query_pre_attn_scalar",
    "residual_multiplier",
    "rotary_pct",
    "scale_attn_by_inverse_layer_idx",
    "scale_depth",
    "scale_emb",
    "scale_embedding",
    "softmax_scale",
    "use_bidirectional_attention",
    "use_cla",
    "use_parallel_block",
    "use_parallel_residual",
    "use_qk_norm",
};

std::string joined(ConfigFields::Names names) {
  std::string text;
  for (const char* name : names) text += (text.empty() ? "'" : " or '") + std::string(name) + "'";
  return text;
}

}  // namespace

bool is_off(const JsonNode& value) {
  if (value.is_bool()) return !value.as_bool();
  if (value.is_number()) return value.as_double() == 0.0 || value.as_double() == 1.0;
  if (value.is_string()) return value.as_string().empty() || value.as_string() == "absolute";
  return value.size() == 0;
}

std::optional<JsonNode> ConfigFields::find(const char* name) {
  read_.insert(name);
  return config_.find(name);
}

bool is_scale(double value) {
  return value >= std::numeric_limits<float>::min() && value <= std::numeric_limits<float>::max();
}

double as_scale(const JsonNode& value) {
  const double number = value.as_double();
  if (!is_scale(number))
    throw value.error("is " + value.json().dump() + ", expected a positive number",
                      "in float32 it must be neither 0 nor infinite: from 1.2e-38 to 3.4e38");
  return number;
}

double as_scale_or(const JsonNode& object, const char* key, double otherwise) {
  const auto node = object.find(key);
  return node ? as_scale(*node) : otherwise;
}

ConfigFields::ConfigFields(const JsonNode& config, const TensorStore& store, std::string family)
    : config_(config), family_(std::move(family)), num_tensors_(static_cast<std::int64_t>(store.tensors().size())) {
  for (const TensorInfo& tensor : store.tensors()) {
    if (tensor.num_elements() == 0) continue;  // its other sizes may be anything
    for (const std::int64_t size : tensor.shape) largest_dimension_ = std::max(largest_dimension_, size);
  }
}

std::optional<JsonNode> ConfigFields::find_first(Names names) {
  std::optional<JsonNode> found;
  for (const char* name : names) {
    auto node = find(name);
    if (node && !found) found = node;
  }
  return found;
}

std::optional<std::int64_t> ConfigFields::find_count(Names names, std::int64_t most, const std::string& limit) {
  const auto found = find_first(names);
  if (!found) return std::nullopt;
  const std::int64_t value = found->as_int();
  if (value < 1) throw found->error("is " + std::to_string(value) + ", expected at least 1");
  if (value > most)
    throw found->error("is " + std::to_string(value) + ", expected at most " + std::to_string(most), limit,
                       "Is config.json the checkpoint's own?");
  return value;
}

std::int64_t ConfigFields::required(Names names, const std::optional<std::int64_t>& found,
                                    std::int64_t of_class) const {
  if (!found && is_part_ && of_class > 0) return of_class;
  if (!found) throw config_.error("the field " + joined(names) + " is missing", "the model type is " + family_);
  return *found;
}

std::string ConfigFields::dimension_limit() const {
  return "no tensor of the checkpoint has a dimension of more than " + std::to_string(largest_dimension_);
}

std::int64_t ConfigFields::layers(Names names, std::int64_t of_class) {
  const bool has_few = num_tensors_ < kMostLayers;
  num_layers_ = required(names,
                         find_count(names, std::min(num_tensors_, kMostLayers),
                                    has_few ? "the checkpoint has no more tensors" : "no model has as many"),
                         of_class);
  return num_layers_;
}

std::int64_t ConfigFields::heads(Names names, std::int64_t of_class) {
  SPECTRACE_ASSERT(num_layers_ > 0);
  const std::int64_t most = kMostHeadsInAll / num_layers_;
  const bool is_small = largest_dimension_ < most;
  return required(
      names,
      find_count(names, std::min(largest_dimension_, most),
                 is_small ? dimension_limit() : "of " + std::to_string(num_layers_) + " layers: no model has as many"),
      of_class);
}

std::int64_t ConfigFields::size(Names names, std::int64_t of_class) {
  return required(names, find_count(names, largest_dimension_, dimension_limit()), of_class);
}

std::int64_t ConfigFields::size_or(Names names, std::int64_t otherwise) {
  return find_count(names, largest_dimension_, dimension_limit()).value_or(otherwise);
}

std::int64_t ConfigFields::count(Names names) {
  return required(names, find_count(names, kMostPositions, "no model has as many"));
}

std::int64_t ConfigFields::count_or(Names names, std::int64_t otherwise) {
  return find_count(names, kMostPositions, "no model has as many").value_or(otherwise);
}

std::optional<std::int64_t> ConfigFields::window(const char* name, std::optional<std::int64_t> otherwise) {
  if (is_null(name)) return std::nullopt;
  const auto found = find_count({name}, kMostPositions, "no model has as many");
  return found ? found : otherwise;
}

bool ConfigFields::is_null(const char* name) {
  read_.insert(name);
  const auto it = config_.json().find(name);
  return it != config_.json().end() && it->is_null();
}

bool ConfigFields::flag(const char* name, bool otherwise) {
  const auto node = find(name);
  return node ? node->as_bool() : otherwise;
}

bool ConfigFields::tied(bool otherwise) {
  const auto own = find("tie_word_embeddings");
  // Older files have it in the text part alone, where newer ones say it of the whole.
  found_tied_ = own && own->as_bool() ? true : tied_of_whole_.value_or(own ? own->as_bool() : otherwise);
  return *found_tied_;
}

double ConfigFields::number(const char* name, double otherwise) {
  const auto node = find(name);
  return node ? node->as_double() : otherwise;
}

double ConfigFields::scale(const char* name, double otherwise) {
  const auto node = find(name);
  return node ? as_scale(*node) : otherwise;
}

std::optional<double> ConfigFields::optional_scale(const char* name, std::optional<double> otherwise) {
  if (is_null(name)) return std::nullopt;
  const auto node = find(name);
  return node ? as_scale(*node) : otherwise;
}

std::string ConfigFields::text(Names names, const std::string& otherwise) {
  const auto found = find_first(names);
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
  const auto node = find(name);
  if (!node) return otherwise;
  const double value = node->as_double();
  if (!is_scale(value) || value >= 1.0)
    throw config_.error("the field '" + std::string(name) + "' is " + node->json().dump(),
                        "an epsilon lies between 0, which in float32 it must not become, and 1");
  return value;
}

void ConfigFields::check_heads(std::int64_t num_heads, std::int64_t num_kv_heads, const char* kv_field) const {
  if (num_heads % num_kv_heads != 0)
    throw config_.error(
        std::to_string(num_kv_heads) + " key/value heads do not divide " + std::to_string(num_heads) + " heads",
        std::string("from ") + kv_field);
}

void ConfigFields::check_head_dim(std::int64_t head_dim) const {
  SPECTRACE_ASSERT(num_layers_ > 0);
  if (const std::int64_t most = kMostHeadDimInAll / num_layers_; head_dim > most)
    throw config_.error(
        "a head has " + std::to_string(head_dim) + " dimensions, expected at most " + std::to_string(most),
        "in each of " + std::to_string(num_layers_) + " layers: no model has as many");
}

std::int64_t ConfigFields::head_dim(Names names, std::int64_t otherwise, std::int64_t hidden_size,
                                    std::int64_t num_heads) {
  const std::int64_t given = size_or(names, otherwise);
  if (given == 0) return divided_head_dim(hidden_size, num_heads);
  check_head_dim(given);
  if (given > largest_dimension_ / num_heads)
    throw config_.error(
        std::to_string(num_heads) + " heads of " + std::to_string(given) + " dimensions (" + joined(names) + ")",
        dimension_limit(), "Is config.json the checkpoint's own?");
  return given;
}

std::int64_t ConfigFields::divided_head_dim(std::int64_t hidden_size, std::int64_t num_heads) const {
  if (hidden_size % num_heads != 0)
    throw config_.error("the hidden size " + std::to_string(hidden_size) + " is not a multiple of the " +
                        std::to_string(num_heads) + " heads");
  check_head_dim(hidden_size / num_heads);
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
