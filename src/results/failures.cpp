#include "spectrace/results/failures.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>

#include "spectrace/core/error.hpp"
#include "spectrace/core/json.hpp"
#include "spectrace/measure/catalogue.hpp"
#include "spectrace/results/layout.hpp"

namespace spectrace {
namespace {

using Strings = std::vector<std::string>;

/// JSON: units that failed, by the names of the analyses that they were of.
constexpr const char* kFailedAnalysesAttribute = "failed_analyses";

const AttributeValue* find_attribute(const Group& group, const char* name) {
  for (const auto& [attribute, value] : group.attributes)
    if (attribute == name) return &value;
  return nullptr;
}

Json json_attribute(const Group& group, const char* name) {
  const AttributeValue* value = find_attribute(group, name);
  const auto* text = value == nullptr ? nullptr : std::get_if<std::string>(value);
  return text == nullptr ? Json() : Json::parse(*text, nullptr, /*allow_exceptions=*/false);
}

const Strings* texts(const Group& group, const char* name) {
  const Dataset* dataset = group.find(name);
  return dataset == nullptr ? nullptr : std::get_if<Strings>(&dataset->values);
}

bool has(const Strings& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

Strings words_of(const std::string& text) {
  Strings words;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find(' ', begin), text.size());
    if (end > begin) words.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return words;
}

/// An analysis' error of a prompt. `different`: what by_analysis() says of the prompt.
std::string error_of(const std::string& analysis, const std::string& common, const std::string& different) {
  if (different.empty()) return common;
  const Json errors = Json::parse(different, nullptr, /*allow_exceptions=*/false);
  if (!errors.is_object()) return common;
  const auto own = errors.find(analysis);
  return own == errors.end() ? "" : own->is_string() ? own->get<std::string>() : common;
}

}  // namespace

bool has_failed_units(const Group& group) { return find_attribute(group, kFailedUnitsAttribute) != nullptr; }

std::int64_t num_failed_units(const Group& group) {
  const AttributeValue* value = find_attribute(group, kFailedUnitsAttribute);
  const auto* number = value == nullptr ? nullptr : std::get_if<std::int64_t>(value);
  return number == nullptr ? 0 : *number;
}

std::int64_t num_failed_units(const ResultTree& tree) {
  std::int64_t units = 0;
  for (const Group& group : tree.groups) units += num_failed_units(group);
  return units;
}

Strings group_errors_in(const ResultTree& tree) {
  Strings lines;
  for (const Group& group : tree.groups) {
    const AttributeValue* value = find_attribute(group, kErrorAttribute);
    const auto* text = value == nullptr ? nullptr : std::get_if<std::string>(value);
    if (text != nullptr && !has(lines, *text)) lines.push_back(*text);
  }
  return lines;
}

Strings prompt_errors_in(const ResultTree& tree) {
  Strings lines;
  for (const Group& group : tree.groups) {
    const auto *errors = texts(group, kPromptError), *ids = texts(group, kPromptId);
    if (errors == nullptr || ids == nullptr) continue;
    const auto has_error = [](const std::string& error) { return !error.empty(); };
    const auto first = std::find_if(errors->begin(), errors->end(), has_error);
    if (first == errors->end()) continue;
    lines.push_back("prompt set '" + group.path.substr(group_of_set("").size()) +
                    "': " + std::to_string(std::count_if(errors->begin(), errors->end(), has_error)) + " of " +
                    std::to_string(errors->size()) + " prompts failed, the first is '" +
                    (*ids)[static_cast<std::size_t>(first - errors->begin())] + "': " + *first);
  }
  return lines;
}

SetFailures::SetFailures(const ResultTree& tree, const std::string& set) {
  const Group *rows = tree.find(group_of_set(set)), *statistics = tree.find(group_of_statistics(set));
  if (rows == nullptr || statistics == nullptr) return;
  Strings names;
  for (const Analysis* analysis : catalogue())
    if (has_some(*statistics, *analysis) || tree.find(group_of_set_numbers(set, analysis->name())) != nullptr)
      names.push_back(analysis->name());
  static const Strings none;
  const Strings *common = texts(*rows, kPromptError), *different = texts(*rows, kPromptErrorByAnalysis);
  for (const auto& name : names) {
    Strings& errors = errors_[name] = common == nullptr ? none : *common;
    if (different == nullptr || different->size() != errors.size()) continue;
    for (std::size_t i = 0; i < errors.size(); ++i) errors[i] = error_of(name, errors[i], (*different)[i]);
  }
  if (!has_failed_units(*rows)) return;
  const Json by_names = json_attribute(*rows, kFailedAnalysesAttribute);
  if (by_names.is_object())
    for (const auto& [key, units] : by_names.items())
      failed_together_.emplace_back(words_of(key), units.is_number_integer() ? units.get<std::int64_t>() : 0);
  else  // a file of before it said so: they may be of every analysis
    failed_together_.emplace_back(names, num_failed_units(*rows));
}

void SetFailures::add(const Strings& analyses, const Strings& errors, std::int64_t failed_units) {
  // Of as many prompts as there are, or a file is not what it says.
  std::erase_if(errors_, [&](const auto& of_before) { return of_before.second.size() != errors.size(); });
  for (const auto& name : analyses) errors_[name] = errors;
  if (failed_units > 0) failed_together_.emplace_back(analyses, failed_units);
}

void SetFailures::forget(const Strings& analyses) {
  for (const auto& name : analyses) errors_.erase(name);
  for (auto& [names, units] : failed_together_)
    std::erase_if(names, [&](const std::string& name) { return has(analyses, name); });
  std::erase_if(failed_together_, [](const auto& failed) { return failed.first.empty(); });
}

bool SetFailures::has_failed_units_of(const std::string& analysis) const {
  return std::any_of(failed_together_.begin(), failed_together_.end(),
                     [&](const auto& failed) { return has(failed.first, analysis); });
}

Strings SetFailures::of_prompts() const {
  std::vector<Strings> all;
  for (const Analysis* analysis : catalogue()) {
    const auto own = errors_.find(analysis->name());
    if (own == errors_.end()) continue;
    all.resize(own->second.size());
    for (std::size_t i = 0; i < all.size(); ++i)
      if (const std::string& error = own->second[i]; !error.empty() && !has(all[i], error)) all[i].push_back(error);
  }
  Strings lines;
  for (const Strings& errors : all) lines.push_back(fmt::format("{}", fmt::join(errors, "; ")));
  return lines;
}

Strings SetFailures::by_analysis() const {
  Strings lines(errors_.empty() ? 0 : errors_.begin()->second.size());
  bool any = false;
  for (std::size_t i = 0; i < lines.size(); ++i) {
    std::set<std::string> different;
    Json own = Json::object();
    for (const auto& [analysis, errors] : errors_) {
      SPECTRACE_ASSERT(errors.size() == lines.size());
      different.insert(errors[i]);
      if (!errors[i].empty()) own[analysis] = errors[i];
    }
    if (different.size() < 2) continue;
    lines[i] = own.dump(-1, ' ', false, Json::error_handler_t::replace);
    any = true;
  }
  return any ? lines : Strings();
}

std::vector<std::pair<std::string, AttributeValue>> SetFailures::attributes() const {
  if (failed_together_.empty()) return {};
  std::int64_t all = 0;
  Json by_names = Json::object();
  for (const auto& [names, units] : failed_together_) {
    all += units;
    by_names[fmt::format("{}", fmt::join(names, " "))] = units;
  }
  return {{kFailedUnitsAttribute, all}, {kFailedAnalysesAttribute, by_names.dump()}};
}

}  // namespace spectrace
