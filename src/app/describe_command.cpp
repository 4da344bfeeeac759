#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "spectrace/app/commands.hpp"
#include "spectrace/measure/catalogue.hpp"
#include "spectrace/results/contents.hpp"
#include "spectrace/results/summary.hpp"

namespace spectrace {
namespace {

const char* name_of(Keep keep) {
  switch (keep) {
    case Keep::as_a_rule: return "as a rule";
    case Keep::if_asked: return "if asked";
    case Keep::never_rows:
    case Keep::in_records: break;
  }
  return "statistics only";
}

/// "/weights", "/prompts/<set>", "/prompts/<set>/last_token_geometry"
std::string group_of(const AnalysisInfo& analysis) {
  if (!analysis.set_quantities.empty()) return group_of_set_numbers("<set>", analysis.name);
  return analysis.group.empty() ? group_of_set("<set>") : analysis.group;
}

/// Of each prompt, or its statistics: by what the job keeps.
bool is_of_prompts(const KnownDataset& dataset) {
  return dataset.analysis != nullptr && dataset.analysis->info().group.empty() &&
         dataset.analysis->find_quantity(dataset.quantity.name) != nullptr;
}

Json described(const Quantity& quantity) {
  Json json = {{"name", quantity.name},       {"dims", quantity.dims},       {"units", quantity.units},
               {"meaning", quantity.meaning}, {"formula", quantity.formula}, {"function", quantity.function},
               {"source", quantity.source}};
  if (!quantity.option.empty()) json["option"] = quantity.option;
  if (!quantity.optional_dim.empty()) json["optional_dim"] = quantity.optional_dim;
  return json;
}

Json described(const KnownDataset& dataset) {
  Json json = described(dataset.quantity);
  json["group"] = dataset.group;
  if (dataset.analysis == nullptr) return json;
  json["analysis"] = dataset.analysis->name();
  if (!is_of_prompts(dataset)) return json;
  json["has_statistics"] = dataset.quantity.has_statistics;
  json["kept"] = name_of(dataset.quantity.keep);
  if (!dataset.quantity.derived.from.empty()) json["derived_from"] = dataset.quantity.derived.from;
  return json;
}

Json described(const Analysis& analysis) {
  const AnalysisInfo& info = analysis.info();
  Json json = {{"name", info.name},
               {"meaning", info.meaning},
               {"default", info.is_default},
               {"group", group_of(info)},
               {"of", info.group.empty() ? "prompts" : "weights"}};
  if (info.section_schema.is_object()) json["section"] = info.section_schema;
  if (!info.ignores_slicing.empty()) json["ignores_slicing"] = info.ignores_slicing;
  return json;
}

/// Everything that files, docs and the Python package say of quantities.
Json all_described() {
  Json analyses = Json::array(), datasets = Json::array();
  for (const Analysis* analysis : catalogue()) analyses.push_back(described(*analysis));
  for (const KnownDataset& dataset : known_datasets()) datasets.push_back(described(dataset));
  return {{"analyses", std::move(analyses)},
          {"datasets", std::move(datasets)},
          {"statistics", statistic_names()},
          {"job_schema", job_schema()}};
}

/// What has the name: an analysis with its datasets, and datasets wherever they are.
Json described_by_name(const std::string& wanted) {
  Json all = Json::array();
  if (const Analysis* analysis = find_analysis(wanted)) {
    Json& json = all.emplace_back(described(*analysis));
    json["datasets"] = Json::array();
    for (const KnownDataset& dataset : known_datasets())
      if (dataset.analysis == analysis) json["datasets"].push_back(described(dataset));
  }
  for (const KnownDataset& dataset : known_datasets())
    if (dataset.quantity.name == wanted) all.push_back(described(dataset));
  return all;
}

/// The optional one in brackets.
std::string shown_dims(const Quantity& quantity) {
  std::vector<std::string> dims = quantity.dims;
  for (std::string& dim : dims)
    if (dim == quantity.optional_dim) dim = "[" + dim + "]";
  return dims.empty() ? "scalar" : fmt::format("{}", fmt::join(dims, ", "));
}

void print_analysis(const Analysis& analysis) {
  const AnalysisInfo& info = analysis.info();
  fmt::print("{}{}: {}\n  group {}\n", info.name, info.is_default ? "" : " (only where the job names it)", info.meaning,
             group_of(info));
  if (!info.ignores_slicing.empty()) fmt::print("  slicing: {}\n", info.ignores_slicing);
  for (const KnownDataset& dataset : known_datasets())
    if (dataset.analysis == &analysis && !dataset.is_dimension() && dataset.group != kSummaryGroup)
      fmt::print("  {:<30} {:<28} {}\n", dataset.quantity.name, shown_dims(dataset.quantity), dataset.quantity.meaning);
}

void print_dataset(const KnownDataset& dataset) {
  const Quantity& quantity = dataset.quantity;
  fmt::print("{}/{}\n  meaning    {}\n", dataset.group, quantity.name, quantity.meaning);
  if (dataset.is_dimension())
    fmt::print("  dimension of {}\n", dataset.group.empty() ? "each group that has it" : "the group");
  else
    fmt::print("  dimensions {}\n", shown_dims(quantity));
  fmt::print("  units      {}\n", quantity.units);
  if (!quantity.formula.empty()) fmt::print("  formula    {}\n", quantity.formula);
  if (!quantity.function.empty()) fmt::print("  function   {}\n", quantity.function);
  if (!quantity.source.empty()) fmt::print("  source     {}\n", quantity.source);
  if (!is_of_prompts(dataset)) return;
  fmt::print("  kept       {}{}\n", name_of(quantity.keep),
             !quantity.has_statistics                 ? "; no statistics"
             : dataset.group == group_of_set("<set>") ? "; statistics in " + group_of_statistics("<set>")
                                                      : "");
}

/// False if nothing has the name.
bool print_by_name(const std::string& wanted) {
  const Analysis* analysis = find_analysis(wanted);
  if (analysis != nullptr) print_analysis(*analysis);
  bool any = analysis != nullptr;
  for (const KnownDataset& dataset : known_datasets()) {
    if (dataset.quantity.name != wanted) continue;
    print_dataset(dataset);
    any = true;
  }
  return any;
}

InputError unknown(const std::string& wanted) {
  std::vector<std::string> names = analysis_names();
  for (const KnownDataset& dataset : known_datasets()) names.push_back(dataset.quantity.name);
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  return unknown_name("analysis or dataset", wanted, names);
}

}  // namespace

int command_describe(const CommandLine& line) {
  const std::string& wanted = line.target;
  if (line.as_json) {
    const Json json = wanted.empty() ? all_described() : described_by_name(wanted);
    if (json.empty()) throw unknown(wanted);
    fmt::print("{}\n", json.dump(2));
  } else if (wanted.empty()) {
    for (const Analysis* analysis : catalogue()) print_analysis(*analysis);
    fmt::print("'spectrace describe NAME' says more of one of them.\n");
  } else if (!print_by_name(wanted)) {
    throw unknown(wanted);
  }
  return kAllDone;
}

}  // namespace spectrace
