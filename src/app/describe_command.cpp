#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "spectrace/app/commands.hpp"
#include "spectrace/measure/catalogue.hpp"
#include "spectrace/results/layout.hpp"
#include "spectrace/results/summary.hpp"

namespace spectrace {
namespace {

const char* name_of(Keep keep) {
  switch (keep) {
    case Keep::as_a_rule: return "as a rule";
    case Keep::if_asked: return "if asked";
    case Keep::never_rows: break;
  }
  return "statistics only";
}

/// "/weights", "/prompts/<set>"
std::string group_of(const AnalysisInfo& analysis) {
  return analysis.group.empty() ? group_of_set("<set>") : analysis.group;
}

Json described(const Quantity& quantity) {
  Json json = {{"name", quantity.name},       {"dims", quantity.dims},       {"units", quantity.units},
               {"meaning", quantity.meaning}, {"formula", quantity.formula}, {"function", quantity.function},
               {"source", quantity.source}};
  if (!quantity.option.empty()) json["option"] = quantity.option;
  return json;
}

Json quantities_to_json(const AnalysisInfo& analysis) {
  Json all = Json::array();
  for (const Quantity& quantity : analysis.quantities) {
    Json& json = all.emplace_back(described(quantity));
    if (!analysis.group.empty()) continue;
    json["has_statistics"] = quantity.has_statistics;
    json["kept"] = name_of(quantity.keep);
    if (!quantity.derived.from.empty()) json["derived_from"] = quantity.derived.from;
  }
  return all;
}

Json described(const DimensionInfo& dimension) {
  return {{"name", dimension.name}, {"units", dimension.units}, {"meaning", dimension.meaning}};
}

template <typename Items, typename ToJson>
Json array_of(const Items& items, const ToJson& item_to_json) {
  Json all = Json::array();
  for (const auto& item : items) all.push_back(item_to_json(item));
  return all;
}

Json described(const Analysis& analysis) {
  const AnalysisInfo& info = analysis.info();
  const auto quantity_of = [](const auto& item) { return described(item.quantity); };
  Json json = {{"name", info.name},
               {"meaning", info.meaning},
               {"default", info.is_default},
               {"group", group_of(info)},
               {"of", info.group.empty() ? "prompts" : "weights"},
               {"quantities", quantities_to_json(info)},
               {"dimensions", array_of(info.dimensions, [](const DimensionInfo& one) { return described(one); })},
               {"facts", array_of(info.facts, quantity_of)},
               {"scalars", array_of(info.scalars, quantity_of)}};
  if (info.section_schema.is_object()) json["section"] = info.section_schema;
  if (!info.ignores_slicing.empty()) json["ignores_slicing"] = info.ignores_slicing;
  return json;
}

/// Everything that files, docs and the Python package say of quantities.
Json all_described() {
  const auto quantity = [](const Quantity& one) { return described(one); };
  Json summary = Json::array();
  for (const SummaryColumn* column : summary_columns())
    summary.push_back({{"name", column->name}, {"meaning", column->meaning}});
  return {{"analyses", array_of(catalogue(), [](const Analysis* analysis) { return described(*analysis); })},
          {"dimensions", array_of(common_dimensions(), [](const DimensionInfo& one) { return described(one); })},
          {"prompt_facts", array_of(prompt_facts(), quantity)},
          {"scalars", array_of(set_scalars(), [](const SetScalar* one) { return described(one->quantity); })},
          {"checkpoint", described(digest_quantity())},
          {"statistics", statistic_names()},
          {"summary", summary},
          {"job_schema", job_schema()}};
}

std::string dims_of(const Quantity& quantity) {
  return quantity.dims.empty() ? "scalar" : fmt::format("{}", fmt::join(quantity.dims, ", "));
}

void print_analysis(const AnalysisInfo& info) {
  fmt::print("{}{}: {}\n  group {}\n", info.name, info.is_default ? "" : " (only where the job names it)", info.meaning,
             group_of(info));
  if (!info.ignores_slicing.empty()) fmt::print("  slicing: {}\n", info.ignores_slicing);
  for (const Quantity& quantity : info.quantities)
    fmt::print("  {:<30} {:<28} {}\n", quantity.name, dims_of(quantity), quantity.meaning);
  for (const SetScalar& scalar : info.scalars)
    fmt::print("  {:<30} {:<28} {}\n", scalar.quantity.name, "scalar of the set", scalar.quantity.meaning);
}

void print_quantity(const std::string& place, const Quantity& quantity) {
  fmt::print("{}/{}\n  meaning    {}\n  dimensions {}\n  units      {}\n", place, quantity.name, quantity.meaning,
             dims_of(quantity), quantity.units);
  if (!quantity.formula.empty()) fmt::print("  formula    {}\n", quantity.formula);
  if (!quantity.function.empty()) fmt::print("  function   {}\n", quantity.function);
  if (!quantity.source.empty()) fmt::print("  source     {}\n", quantity.source);
}

/// Quantities of the name, wherever they are; false if there are none.
bool print_quantities(const std::string& wanted) {
  bool any = false;
  const auto print_if = [&](const std::string& place, const Quantity& quantity) {
    if (quantity.name != wanted) return;
    print_quantity(place, quantity);
    any = true;
  };
  for (const Analysis* analysis : catalogue()) {
    const AnalysisInfo& info = analysis->info();
    for (const Quantity& quantity : info.quantities) {
      print_if(group_of(info), quantity);
      if (quantity.name != wanted || !info.group.empty()) continue;
      fmt::print("  kept       {}{}\n", name_of(quantity.keep),
                 quantity.has_statistics ? "; statistics in " + group_of_statistics("<set>") : "; no statistics");
    }
    for (const Fact& fact : info.facts) print_if(group_of(info), fact.quantity);
    for (const SetScalar& scalar : info.scalars) print_if(group_of_statistics("<set>"), scalar.quantity);
  }
  for (const Quantity& fact : prompt_facts()) print_if(group_of_set("<set>"), fact);
  return any;
}

std::vector<std::string> known_names() {
  std::vector<std::string> names = analysis_names();
  for (const Analysis* analysis : catalogue()) {
    for (const Quantity& quantity : analysis->info().quantities) names.push_back(quantity.name);
    for (const SetScalar& scalar : analysis->info().scalars) names.push_back(scalar.quantity.name);
  }
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  return names;
}

}  // namespace

int command_describe(const CommandLine& line) {
  if (line.as_json && line.target.empty()) {
    fmt::print("{}\n", all_described().dump(2));
    return kAllDone;
  }
  const Analysis* analysis = find_analysis(line.target);
  if (line.target.empty()) {
    for (const Analysis* one : catalogue()) print_analysis(one->info());
    fmt::print("'spectrace describe NAME' says more of one of them.\n");
  } else if (line.as_json) {
    Json all = Json::array();
    for (const Analysis* one : catalogue())
      if (one == analysis || one->find_quantity(line.target) != nullptr) {
        Json json = described(*one);
        if (one != analysis) json["quantities"] = Json::array({described(*one->find_quantity(line.target))});
        all.push_back(std::move(json));
      }
    if (all.empty()) throw unknown_name("analysis or quantity", line.target, known_names());
    fmt::print("{}\n", all.dump(2));
  } else if (analysis != nullptr) {
    print_analysis(analysis->info());
    print_quantities(line.target);
  } else if (!print_quantities(line.target)) {
    throw unknown_name("analysis or quantity", line.target, known_names());
  }
  return kAllDone;
}

}  // namespace spectrace
