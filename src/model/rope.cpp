#include "rope.hpp"

#include <ATen/ATen.h>

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

  double number(const char* name) const { return settings.at(name).as_double(); }
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
  const double mscale = scaling.settings.get_double("mscale", 0.0);
  const double mscale_all_dim = scaling.settings.get_double("mscale_all_dim", 0.0);
  if (mscale != 0.0 && mscale_all_dim != 0.0)
    return yarn_mscale(scaling.factor(), mscale) / yarn_mscale(scaling.factor(), mscale_all_dim);
  return yarn_mscale(scaling.factor(), 1.0);
}

Tensor yarn_frequencies(const Scaling& scaling) {
  const auto or_default = [&](const char* name, double otherwise) {
    const double value = scaling.settings.get_double(name, otherwise);
    return value == 0.0 ? otherwise : value;
  };
  const auto correction_dim = [&](double rotations) {
    return static_cast<double>(scaling.dim) * std::log(scaling.original() / (rotations * 2 * std::numbers::pi)) /
           (2 * std::log(scaling.theta));
  };
  double low = correction_dim(or_default("beta_fast", 32.0)), high = correction_dim(or_default("beta_slow", 1.0));
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
  settings.at(name).for_each([&](const JsonNode& v) { factors.push_back(static_cast<float>(v.as_double())); });
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

std::string shown(const JsonNode& value) { return value.is_string() ? value.as_string() : value.json().dump(); }

/// Fills in the frequencies of the scaling `type`. @throws InputError naming an unknown type.
void apply_scaling(const std::string& type, const Scaling& scaling, RotarySpec& rotary) {
  const double theta = scaling.theta;
  const std::int64_t dim = scaling.dim;
  if (type == "linear") {
    rotary.inverse_frequencies = to_vector(default_frequencies(theta, dim) / scaling.number("factor"));
  } else if (type == "dynamic") {
    const double factor = scaling.number("factor");
    if (dim <= 2)
      throw scaling.settings.error("dynamic scaling of " + std::to_string(dim) + " dimensions",
                                   "its theta grows by a power of 1 / (dimensions - 2)");
    rotary.dynamic_theta = theta;
    rotary.dynamic_factor = factor;
    rotary.long_threshold = scaling.max_positions;
    const double grown =
        factor * static_cast<double>(scaling.max_positions) / static_cast<double>(scaling.max_positions);
    const double base = theta * std::pow(grown - (factor - 1), static_cast<double>(dim) / static_cast<double>(dim - 2));
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

RopeReading read_rope_settings(const ConfigFields& fields, const std::optional<JsonNode>& settings, double theta,
                               double partial, std::int64_t original_positions, std::int64_t head_dim,
                               std::int64_t max_positions) {
  RopeReading reading;
  std::string type = "default";
  if (settings && settings->is_object()) {
    settings->expect_only_keys({"type", "rope_type", "rope_theta", "partial_rotary_factor", "factor",
                                "original_max_position_embeddings", "attention_factor", "beta_fast", "beta_slow",
                                "mscale", "mscale_all_dim", "truncate", "short_factor", "long_factor",
                                "low_freq_factor", "high_freq_factor", "finetuned"});
    type = settings->get_string("rope_type", settings->get_string("type", "default"));
    theta = settings->get_double("rope_theta", theta);
    partial = settings->get_double("partial_rotary_factor", partial);
    if (original_positions == 0) original_positions = settings->get_int("original_max_position_embeddings", 0);
  }
  if (original_positions == 0) original_positions = max_positions;
  RotarySpec& rotary = reading.rotary;
  rotary.rotary_dim = static_cast<std::int64_t>(static_cast<double>(head_dim) * partial);
  if (!(theta > 0.0) || !(partial >= 0.0 && partial <= 1.0) || rotary.rotary_dim % 2 != 0)
    throw fields.json().error("rope with theta " + Json(theta).dump() + " and " + std::to_string(rotary.rotary_dim) +
                                  " of " + std::to_string(head_dim) + " dimensions",
                              "theta must be positive and the number of dimensions even");
  if (type == "default")
    rotary.inverse_frequencies = to_vector(default_frequencies(theta, rotary.rotary_dim));
  else
    apply_scaling(type, {fields, *settings, theta, rotary.rotary_dim, max_positions, original_positions}, rotary);

  reading.facts = {
      {"rope_theta", Json(theta).dump()}, {"rope_type", type}, {"rope_dimensions", std::to_string(rotary.rotary_dim)}};
  if (settings && settings->is_object())
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
  const auto settings = has_old ? old_style : new_style;
  if (settings && !settings->is_object())
    throw settings->error("is " + settings->json().dump() + ", expected an object with a 'rope_type'");
  const double theta = fields.number(names.theta, names.default_theta);
  double partial = names.default_partial;
  if (names.partial)
    partial = fields.number(names.partial, partial);
  else if (settings && settings->get_double("partial_rotary_factor", 1.0) != 1.0)
    throw settings->error("partial_rotary_factor is not 1", "the family " + fields.family() + " turns whole heads");
  const std::int64_t original = fields.size_or({"original_max_position_embeddings"}, names.default_original_positions);
  auto reading = read_rope_settings(fields, settings, theta, partial, original, head_dim, max_positions);
  reading.facts.emplace_back("rope_max_positions", std::to_string(max_positions));
  return reading;
}

}  // namespace spectrace
