#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <utility>

#include "spectrace/app/commands.hpp"
#include "spectrace/measure/catalogue.hpp"
#include "spectrace/model/adapter.hpp"

namespace spectrace {
namespace {

/// Names of those that a model of the family can have.
std::vector<std::string> analyses_of(const FamilyInfo& family) {
  std::vector<std::string> names;
  for (const Analysis* analysis : catalogue())
    if (analysis->lacks_by_family(family.limits).empty()) names.push_back(analysis->name());
  return names;
}

Json as_json(const FamilyInfo& family) {
  Json json = {{"model_type", family.model_type},
               {"class", family.class_name},
               {"text_part_of", family.part_of},
               {"analyses", analyses_of(family)}};
  Json impossible = Json::object();
  for (const Analysis* analysis : catalogue())
    if (const std::string why = analysis->lacks_by_family(family.limits); !why.empty())
      impossible[analysis->name()] = why;
  if (!impossible.empty()) json["impossible_analyses"] = std::move(impossible);
  return json;
}

}  // namespace

int command_families(const CommandLine& line) {
  const std::vector<FamilyInfo> all = families();
  if (line.as_json) {
    Json json = Json::array();
    for (const FamilyInfo& family : all) json.push_back(as_json(family));
    fmt::print("{}\n", json.dump(2));
    return kAllDone;
  }
  std::size_t types = 0, classes = 0;
  for (const FamilyInfo& family : all) {
    types = std::max(types, family.model_type.size());
    classes = std::max(classes, family.class_name.size());
  }
  // Those with all analyses first.
  std::map<std::pair<std::size_t, std::vector<std::string>>, std::vector<const FamilyInfo*>> by_lack;
  for (const FamilyInfo& family : all) {
    auto analyses = analyses_of(family);
    by_lack[{catalogue().size() - analyses.size(), std::move(analyses)}].push_back(&family);
  }
  for (const auto& [of, some] : by_lack) {
    const auto& [num_lacked, analyses] = of;
    fmt::print("{} families with {}: {}\n", some.size(),
               num_lacked == 0 ? "all analyses" : fmt::format("{} analyses", analyses.size()),
               fmt::join(analyses, ", "));
    for (const FamilyInfo* family : some)
      fmt::print(
          "  {:<{}}  {:<{}}{}\n", family->model_type, types, family->class_name, family->part_of.empty() ? 0 : classes,
          family->part_of.empty() ? "" : fmt::format("  also the text part of {}", fmt::join(family->part_of, ", ")));
    fmt::print("\n");
  }
  fmt::print(
      "{} families. A model of more than text is measured by its text part, if that is of one of them. Of any other "
      "checkpoint: tensors. Why a family lacks an analysis: --json.\n",
      all.size());
  return kAllDone;
}

}  // namespace spectrace
