#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "config_fields.hpp"

namespace spectrace {

/// How a family names and defaults its rotary settings.
struct RopeFields {
  const char* theta = "rope_theta";
  const char* partial = nullptr;  ///< the field of the turned share of a head; null: the family turns whole heads
  double default_theta = 10000.0;
  double default_partial = 1.0;
  std::int64_t default_original_positions = 0;  ///< Phi-3's class default; 0: none
  /// What the class puts in the place of absent settings, as JSON: its theta then counts, whatever rope_theta says.
  /// Null: nothing.
  const char* default_settings = nullptr;
  /// Keys of the settings that this family has and others do not.
  std::vector<std::string_view> own_keys = {};
};

struct RopeReading {
  RotarySpec rotary;
  std::vector<std::pair<std::string, std::string>> facts;  ///< ModelDescription::rope_facts
  std::optional<JsonNode> settings;                        ///< what was read, where there was any
  std::int64_t original_positions = 0;                     ///< of the training before the context was extended
};

/// Rotary settings from config.json, old style (rope_theta, rope_scaling {type | rope_type, …}) or new
/// (rope_parameters). Frequencies as transformers 5 computes them, in float32 and in the same order of operations
/// (modeling_rope_utils.py): default, linear, dynamic (NTK), yarn (Peng et al. 2023, arXiv:2309.00071), longrope (Ding
/// et al. 2024, arXiv:2402.13753), llama3; of Hunyuan a
/// dynamic NTK whose factor is fixed (alpha). @throws InputError naming an unknown type or field.
RopeReading read_rope(ConfigFields& fields, const RopeFields& names, std::int64_t head_dim, std::int64_t max_positions);

/// The same from a settings object of its own (Gemma-3 has one a kind of layer). `settings` may be absent.
RopeReading read_rope_settings(ConfigFields& fields, const std::optional<JsonNode>& settings, double theta,
                               double partial, std::int64_t original_positions, std::int64_t head_dim,
                               std::int64_t max_positions, const std::vector<std::string_view>& own_keys = {});

}  // namespace spectrace
