#include "spectrace/plan/settings.hpp"

#include <algorithm>

#include "spectrace/core/hash.hpp"
#include "spectrace/measure/catalogue.hpp"
#include "spectrace/numerics/device.hpp"
#include "spectrace/numerics/version.hpp"

namespace spectrace {
namespace {

constexpr const char *kNumerics = "numerics version", *kConfig = "config.json", *kDtype = "compute dtype",
                     *kSlicing = "slicing", *kTokensPerBatch = "tokens_per_batch", *kDevice = "device",
                     *kPromptsOfSet = "prompts of the set '";

/// A value as messages show it: a list by its ends, a digest by its first digits.
std::string shown_value(const std::string& value) {
  constexpr std::size_t kMostShown = 40, kDigitsShown = 8;
  if (value.size() <= kMostShown) return value;
  const Json list = Json::parse(value, nullptr, /*allow_exceptions=*/false);
  if (list.is_array() && !list.empty())
    return std::to_string(list.size()) + " values from " + list.front().dump() + " to " + list.back().dump();
  return value.substr(0, kDigitsShown) + "...";
}

const std::string* find(const Identity& identity, const std::string& name) {
  for (const auto& [what, value] : identity)
    if (what == name) return &value;
  return nullptr;
}

/// As the identity has it: a text as it is, another value as JSON.
std::string identity_text(const Json& value) { return value.is_string() ? value.get<std::string>() : value.dump(); }

/// What an analysis' own version of its numbers is called. The first one is not said: files had none then.
std::string version_name(const Analysis& analysis) { return "numerics version of " + analysis.name(); }
constexpr int kFirstVersion = 1;

/// Of an analysis whatever a job says of it.
std::vector<Setting> settings_by_default(const Analysis& analysis) {
  PlanOptions options;
  options.device_kind = "any";
  return settings_of({&analysis, analysis.complete(std::nullopt)}, options);
}

/// Where a name stands in an identity: numerics and model, then settings, then sets in the order in which they came.
int place_of(const std::string& name) {
  static const std::vector<std::string> order = [] {
    std::vector<std::string> names = {kNumerics, kConfig, kDtype, kSlicing};
    for (const Analysis* analysis : catalogue())
      for (const Setting& setting : settings_by_default(*analysis))
        if (std::find(names.begin(), names.end(), setting.name) == names.end()) names.push_back(setting.name);
    return names;
  }();
  if (name.starts_with(kPromptsOfSet)) return static_cast<int>(order.size()) + 1;
  return static_cast<int>(std::find(order.begin(), order.end(), name) - order.begin());
}

}  // namespace

std::vector<std::string> identity_differences(const Identity& before, const Identity& now) {
  std::vector<std::string> lines;
  for (const auto& [what, old_value] : before)
    for (const auto& [name, new_value] : now)
      if (name == what && new_value != old_value && what != kDevice)
        lines.push_back(what + ": was " + shown_value(old_value) + ", now " + shown_value(new_value));
  const bool both_have_prompts = find(before, kTokensPerBatch) != nullptr && find(now, kTokensPerBatch) != nullptr;
  const auto device_of = [](const Identity& identity) {
    const std::string* kind = find(identity, kDevice);
    return kind == nullptr ? Device::cpu().kind() : *kind;
  };
  if (both_have_prompts && device_of(before) != device_of(now))
    lines.push_back(std::string(kDevice) + ": was " + device_of(before) + ", now " + device_of(now));
  return lines;
}

Identity with_versions(Identity identity, const std::vector<const Analysis*>& analyses) {
  for (const Analysis* analysis : analyses)
    if (const std::string name = version_name(*analysis); find(identity, name) == nullptr)
      identity.emplace_back(name, std::to_string(kFirstVersion));
  return identity;
}

std::string identity_to_json(const Identity& identity) {
  Json json = Json::array();
  for (const auto& [what, value] : identity) json.push_back({what, value});
  return json.dump();
}

Identity identity_from_json(const std::string& text) {
  Identity identity;
  JsonNode::parse_text(text, "identity", ErrorKind::io).for_each([&](const JsonNode& pair) {
    identity.emplace_back(pair.element(0).as_string(), pair.element(1).as_string());
  });
  return identity;
}

PlanOptions plan_options(const Job& job, const Json& config) {
  return {job.compute.dtype, job.slicing, job.compute.tokens_per_batch,
          config.dump(-1, ' ', false, Json::error_handler_t::replace), job.compute.device_kind};
}

std::vector<Setting> settings_of(const Chosen& chosen, const PlanOptions& options) {
  std::vector<Setting> settings = {{kDtype, "dtype", name(options.dtype)}};
  if (chosen.analysis->info().ignores_slicing.empty()) settings.push_back({kSlicing, "slicing", name(options.slicing)});
  if (chosen.is_of_prompts()) {
    settings.push_back({kTokensPerBatch, "tokens_per_batch", options.tokens_per_batch});
    if (!options.device_kind.empty()) settings.push_back({kDevice, "", options.device_kind});
  }
  if (const int version = chosen.analysis->info().numerics_version; version != kFirstVersion)
    settings.push_back({version_name(*chosen.analysis), "", version});
  for (Setting& setting : chosen.analysis->deciding(chosen.settings)) settings.push_back(std::move(setting));
  return settings;
}

Identity identity_of(const AnalysisChoice& analyses, const PlanOptions& options) {
  Identity identity = {{kNumerics, std::to_string(kNumericsVersion)},
                       {kConfig, sha256_hex(options.config)},
                       {kDtype, name(options.dtype)},
                       {kSlicing, name(options.slicing)}};
  for (const Chosen& chosen : analyses)
    for (const Setting& setting : settings_of(chosen, options))
      if (find(identity, setting.name) == nullptr) identity.emplace_back(setting.name, identity_text(setting.value));
  return identity;
}

void add_set(Identity& identity, const std::string& set, const std::string& digest) {
  identity.emplace_back(kPromptsOfSet + set + "'", digest);
}

Identity merged(const Identity& before, const Identity& now) {
  Identity all = now;
  for (const auto& pair : before)
    if (find(now, pair.first) == nullptr) all.push_back(pair);
  std::stable_sort(all.begin(), all.end(),
                   [](const auto& a, const auto& b) { return place_of(a.first) < place_of(b.first); });
  return all;
}

Json parameters_of(const Identity& identity, const std::vector<const Analysis*>& analyses) {
  const auto value_of = [&](const char* name) {
    const std::string* value = find(identity, name);
    return value == nullptr ? std::string() : *value;
  };
  Json parameters = {{"slicing", value_of(kSlicing)}, {"dtype", value_of(kDtype)}};
  for (const Analysis* analysis : analyses)
    for (const Setting& setting : settings_by_default(*analysis)) {
      const std::string* value = find(identity, setting.name);
      if (value == nullptr || setting.parameter.empty() || parameters.contains(setting.parameter)) continue;
      parameters[setting.parameter] = setting.value.is_string() ? Json(*value) : Json::parse(*value);
    }
  return parameters;
}

std::string find_wrong_value(const Identity& identity) {
  for (const Analysis* analysis : catalogue())
    for (const Setting& setting : settings_by_default(*analysis)) {
      const std::string* value = find(identity, setting.name);
      if (value == nullptr || setting.value.is_string()) continue;
      const Json json = Json::parse(*value, nullptr, /*allow_exceptions=*/false);
      const bool is_alike = setting.value.is_number() ? json.is_number() : json.type() == setting.value.type();
      if (!is_alike) return "its identity's " + setting.name + " is not of its kind";
    }
  return "";
}

}  // namespace spectrace
