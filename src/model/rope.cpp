#include "rope.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>

#include "spectrace/core/json.hpp"
#include "spectrace/numerics/tensor.hpp"

namespace spectrace {
namespace {

// ATen's own operations, in the order in which transformers calls them: its float32 power differs in the last bit from
// the C library's, and a frequency that is off by one bit turns distant tokens visibly.

std::vector<float> to_vector(const Tensor& values) {
  const Tensor flat = values.to(at::kFloat).contiguous();
  return {flat.const_data_ptr<float>(), flat.const_data_ptr<float>() + flat.numel()};
}

Tensor exponents(std::int64_t dim) { return at::arange(0, dim, 2, at::kLong).to(at::kFloat) / dim; }  // [dim / 2]

Tensor powers(double theta, std::int64_t dim) { return at::pow(at::Scalar(theta), exponents(dim)); }  // [dim / 2]

/// As Python's number / tensor: two roundings, unlike C++'s.
Tensor quotient(double number, const Tensor& divisor) { return divisor.reciprocal() * number; }

Tensor default_frequencies(double theta, std::int64_t dim) { return 1.0 / powers(theta, dim); }

struct Scaling {
  const ConfigFields& fields;
  const JsonNode& settings;
  double theta;
  std::int64_t dim, max_positions, original_positions;

  double number(const char* name) const { return as_scale(settings.at(name)); }
  /// For what is off, or as the family has it, where it is absent or 0.
  double number_or(const char* name, double otherwise) const {
    const auto node = settings.find(name);
    return node && node->as_double() != 0.0 ? as_scale(*node) : otherwise;
  }
  double factor() const {
    return settings.has("factor") ? number("factor") : static_cast<double>(max_positions) / original();
  }
  double original() const { return static_cast<double>(original_positions); }
};

/// Llama 3.1: long wavelengths slowed by `factor`, short ones kept, those between blended.
Tensor llama3_frequencies(const Scaling& scaling) {
  const double factor = scaling.number("factor");
  const double low = scaling.number("low_freq_factor"), high = scaling.number("high_freq_factor");
  const double low_wavelength = scaling.original() / low, high_wavelength = scaling.original() / high;
  const Tensor plain = default_frequencies(scaling.theta, scaling.dim);
  const Tensor wavelength = quotient(2 * std::numbers::pi, plain);
  const Tensor scaled = at::where(wavelength > low_wavelength, plain / factor, plain);
  const Tensor smooth = (quotient(scaling.original(), wavelength) - low) / (high - low);
  const Tensor blended = (1 - smooth) * scaled / factor + smooth * scaled;
  const Tensor between = (wavelength < high_wavelength).logical_not() & (wavelength > low_wavelength).logical_not();
  return at::where(between, blended, scaled);
}

double yarn_mscale(double scale, double mscale) { return scale <= 1 ? 1.0 : 0.1 * mscale * std::log(scale) + 1.0; }

double yarn_attention_factor(const Scaling& scaling) {
  if (scaling.settings.has("attention_factor")) return scaling.number("attention_factor");
  const double mscale = scaling.number_or("mscale", 0.0);
  const double mscale_all_dim = scaling.number_or("mscale_all_dim", 0.0);
  if (mscale != 0.0 && mscale_all_dim != 0.0)
    return yarn_mscale(scaling.factor(), mscale) / yarn_mscale(scaling.factor(), mscale_all_dim);
  return yarn_mscale(scaling.factor(), 1.0);
}

Tensor yarn_frequencies(const Scaling& scaling) {
  const auto correction_dim = [&](double rotations) {
    return static_cast<double>(scaling.dim) * std::log(scaling.original() / (rotations * 2 * std::numbers::pi)) /
           (2 * std::log(scaling.theta));
  };
  double low = correction_dim(scaling.number_or("beta_fast", 32.0));
  double high = correction_dim(scaling.number_or("beta_slow", 1.0));
  if (scaling.settings.get_bool("truncate", true)) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(scaling.dim - 1));
  if (low == high) high += 0.001;
  const Tensor turns = powers(scaling.theta, scaling.dim);
  const Tensor kept = 1.0 / turns, slowed = 1.0 / (scaling.factor() * turns);
  const Tensor ramp = at::clamp((at::arange(scaling.dim / 2, at::kFloat) - low) / (high - low), 0, 1);
  const Tensor keep = 1 - ramp;
  return slowed * (1 - keep) + kept * keep;
}

std::vector<float> factor_list(const JsonNode& settings, const char* name, std::int64_t count) {
  std::vector<float> factors;
  settings.at(name).for_each([&](const JsonNode& v) { factors.push_back(static_cast<float>(as_scale(v))); });
  if (std::cmp_not_equal(factors.size(), count))
    throw settings.at(name).error("has " + std::to_string(factors.size()) + " factors, expected " +
                                  std::to_string(count));
  return factors;
}

Tensor longrope_frequencies(const Scaling& scaling, const char* list) {
  const auto factors = factor_list(scaling.settings, list, scaling.dim / 2);
  return 1.0 / (at::tensor(factors, at::kFloat) * powers(scaling.theta, scaling.dim));
}

double longrope_attention_factor(const Scaling& scaling) {
  if (scaling.settings.has("attention_factor")) return scaling.number("attention_factor");
  const double factor = scaling.factor();
  return factor <= 1.0 ? 1.0 : std::sqrt(1 + std::log(factor) / std::log(scaling.original()));
}

std::int64_t positions_of(const JsonNode& settings) {
  const auto node = settings.find("original_max_position_embeddings");
  if (!node) return 0;
  const std::int64_t positions = node->as_int();
  if (positions < 0 || positions > kMostPositions)
    throw node->error("is " + std::to_string(positions) + ", expected at most " + std::to_string(kMostPositions));
  return positions;
}

/// @throws InputError naming the first key that is none of all families, nor one of this family's own.
void expect_known_keys(const JsonNode& settings, const std::vector<std::string_view>& own_keys) {
  std::vector<std::string_view> known = {"type",
                                         "rope_type",
                                         "rope_theta",
                                         "partial_rotary_factor",
                                         "factor",
                                         "original_max_position_embeddings",
                                         "attention_factor",
                                         "beta_fast",
                                         "beta_slow",
                                         "mscale",
                                         "mscale_all_dim",
                                         "truncate",
                                         "short_factor",
                                         "long_factor",
                                         "low_freq_factor",
                                         "high_freq_factor",
                                         "finetuned",
                                         "mrope_section",
                                         "mrope_interleaved",
                                         "attn_factor"};
  known.insert(known.end(), own_keys.begin(), own_keys.end());
  for (const auto& key : settings.keys())
    if (std::find(known.begin(), known.end(), key) == known.end())
      throw settings.error("unknown key '" + key + "'", "allowed here: " + quoted_list(known));
}

std::string shown(const JsonNode& value) { return value.is_string() ? value.as_string() : value.json().dump(); }

/// What turns at a frequency that is not there in float32, or is scaled by a factor that is not, turns to NaN or not at
/// all. The fields are each within bounds; this is of what they make together.
void check_rotary(const RotarySpec& rotary, const JsonNode& where) {
  constexpr float kHighest = 1e30f;  // times a position is finite still
  auto frequencies = rotary.inverse_frequencies;
  frequencies.insert(frequencies.end(), rotary.long_inverse_frequencies.begin(), rotary.long_inverse_frequencies.end());
  if (rotary.dynamic_theta > 0.0) {  // the longer a prompt, the larger its theta
    const auto far = inverse_frequencies(rotary, 1000 * rotary.long_threshold);
    frequencies.insert(frequencies.end(), far.begin(), far.end());
  }
  for (const float frequency : frequencies)
    if (!is_scale(frequency) || frequency > kHighest)
      throw where.error(
          "its rotary settings give a frequency of " + std::to_string(frequency),
          "in float32 all must lie from 1.2e-38 to 1e30: theta, a factor or another number is out of reason");
  if (!is_scale(rotary.attention_factor))
    throw where.error("its rotary settings give an attention factor of " + std::to_string(rotary.attention_factor),
                      "in float32 it must be positive and finite");
}

/// The settings' kind of scaling, after a look at what else they say. @throws InputError naming a key that is unknown.
std::string rope_type_of(const JsonNode& settings, const std::vector<std::string_view>& own_keys,
                         ConfigFields& fields) {
  if (!settings.is_object())
    throw settings.error("is " + settings.json().dump() + ", expected an object with a 'rope_type'");
  expect_known_keys(settings, own_keys);
  if (settings.has("attn_factor"))
    fields.warn("rope's 'attn_factor' is ignored, as in transformers: the field is called 'attention_factor'");
  const std::string type = settings.get_string("rope_type", settings.get_string("type", "default"));
  // Sections of time, height and width (Qwen2-VL) have the same positions where there is text alone.
  return type == "mrope" && settings.has("mrope_section") ? "default" : type;
}

/// The power of the length by which theta grows in dynamic NTK.
double dynamic_exponent(const Scaling& scaling) {
  if (scaling.dim <= 2)
    throw scaling.settings.error("dynamic scaling of " + std::to_string(scaling.dim) + " dimensions",
                                 "its theta grows by a power of 1 / (dimensions - 2)");
  return static_cast<double>(scaling.dim) / static_cast<double>(scaling.dim - 2);
}

/// Fills in the frequencies of the scaling `type`. @throws InputError naming an unknown type.
void apply_scaling(const std::string& type, const Scaling& scaling, RotarySpec& rotary) {
  const double theta = scaling.theta;
  const std::int64_t dim = scaling.dim;
  if (type == "linear") {
    rotary.inverse_frequencies = to_vector(default_frequencies(theta, dim) / scaling.number("factor"));
  } else if (type == "dynamic" && scaling.number_or("alpha", 0.0) != 0.0) {
    const double stretch = std::pow(scaling.number("alpha"), dynamic_exponent(scaling));
    rotary.inverse_frequencies = to_vector(default_frequencies(theta * stretch, dim));
  } else if (type == "dynamic") {
    const double factor = scaling.number("factor");
    rotary.dynamic_theta = theta;
    rotary.dynamic_factor = factor;
    rotary.long_threshold = scaling.max_positions;
    const double grown =
        factor * static_cast<double>(scaling.max_positions) / static_cast<double>(scaling.max_positions);
    const double base = theta * std::pow(grown - (factor - 1), dynamic_exponent(scaling));
    rotary.inverse_frequencies = to_vector(default_frequencies(base, dim));
  } else if (type == "llama3") {
    rotary.inverse_frequencies = to_vector(llama3_frequencies(scaling));
  } else if (type == "yarn" && !scaling.settings.has("short_factor")) {
    rotary.inverse_frequencies = to_vector(yarn_frequencies(scaling));
    rotary.attention_factor = yarn_attention_factor(scaling);
    // Early Phi-3 configs call longrope "su" or "yarn".
  } else if (type == "longrope" || type == "su" || type == "yarn") {
    rotary.inverse_frequencies = to_vector(longrope_frequencies(scaling, "short_factor"));
    rotary.long_inverse_frequencies = to_vector(longrope_frequencies(scaling, "long_factor"));
    rotary.long_threshold = scaling.original_positions;
    rotary.attention_factor = longrope_attention_factor(scaling);
  } else {
    throw scaling.settings.error("unknown kind of rope scaling '" + type + "'",
                                 "known: 'default', 'linear', 'dynamic', 'yarn', 'longrope', 'su', 'llama3'");
  }
}

}  // namespace

std::vector<float> inverse_frequencies(const RotarySpec& rotary, std::int64_t num_tokens) {
  if (rotary.long_threshold == 0 || num_tokens <= rotary.long_threshold) return rotary.inverse_frequencies;
  if (!rotary.long_inverse_frequencies.empty()) return rotary.long_inverse_frequencies;
  // Dynamic NTK: there the length is a tensor, so that this part runs in float32.
  const std::int64_t dim = rotary.rotary_dim;
  const Tensor length = at::scalar_tensor(num_tokens, at::kLong);
  const Tensor grown = rotary.dynamic_factor * length / rotary.long_threshold - (rotary.dynamic_factor - 1);
  const Tensor base = rotary.dynamic_theta * at::pow(grown, static_cast<double>(dim) / static_cast<double>(dim - 2));
  return to_vector(1.0 / at::pow(base, exponents(dim)));
}

RopeReading read_rope_settings(ConfigFields& fields, const std::optional<JsonNode>& settings, double theta,
                               double partial, std::int64_t original_positions, std::int64_t head_dim,
                               std::int64_t max_positions, const std::vector<std::string_view>& own_keys) {
  RopeReading reading;
  std::string type = "default";
  if (settings) {
    type = rope_type_of(*settings, own_keys, fields);
    theta = as_scale_or(*settings, "rope_theta", theta);
    partial = settings->get_double("partial_rotary_factor", partial);
    if (original_positions == 0) original_positions = positions_of(*settings);
  }
  if (original_positions == 0) original_positions = max_positions;
  reading.settings = settings;
  reading.original_positions = original_positions;
  RotarySpec& rotary = reading.rotary;
  if (!(partial >= 0.0 && partial <= 1.0))
    throw fields.json().error("rope of a share of " + Json(partial).dump() + " of each head",
                              "expected a number from 0 to 1");
  rotary.rotary_dim = static_cast<std::int64_t>(static_cast<double>(head_dim) * partial);
  if (rotary.rotary_dim % 2 != 0)
    throw fields.json().error(
        "rope of " + std::to_string(rotary.rotary_dim) + " of " + std::to_string(head_dim) + " dimensions",
        "the number of dimensions must be even");
  if (type == "default")
    rotary.inverse_frequencies = to_vector(default_frequencies(theta, rotary.rotary_dim));
  else
    apply_scaling(type, {fields, *settings, theta, rotary.rotary_dim, max_positions, original_positions}, rotary);
  check_rotary(rotary, settings ? *settings : fields.json());

  reading.facts = {
      {"rope_theta", Json(theta).dump()}, {"rope_type", type}, {"rope_dimensions", std::to_string(rotary.rotary_dim)}};
  if (settings)
    settings->for_each_member([&](const std::string& key, const JsonNode& value) {
      if (key != "type" && key != "rope_type" && key != "rope_theta" && !value.is_null())
        reading.facts.emplace_back("rope_" + key, shown(value));
    });
  return reading;
}

RopeReading read_rope(ConfigFields& fields, const RopeFields& names, std::int64_t head_dim,
                      std::int64_t max_positions) {
  const auto old_style = fields.find("rope_scaling"), new_style = fields.find("rope_parameters");
  const bool has_old = old_style && old_style->size() > 0;
  auto settings = has_old ? old_style : new_style;
  if (!settings && names.default_settings)
    settings = JsonNode::parse_text(names.default_settings, "the default of rope_parameters", ErrorKind::model);
  const double theta = fields.scale(names.theta, names.default_theta);
  double partial = names.default_partial;
  if (names.partial)
    partial = fields.number(names.partial, partial);
  else if (settings && settings->is_object() && settings->get_double("partial_rotary_factor", 1.0) != 1.0)
    throw settings->error("partial_rotary_factor is not 1", "the family " + fields.family() + " turns whole heads");
  const std::int64_t original = fields.count_or({"original_max_position_embeddings"}, names.default_original_positions);
  auto reading =
      read_rope_settings(fields, settings, theta, partial, original, head_dim, max_positions, names.own_keys);
  reading.facts.emplace_back("rope_max_positions", std::to_string(max_positions));
  return reading;
}

}  // namespace spectrace
