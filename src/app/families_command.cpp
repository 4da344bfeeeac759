#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "spectrace/app/commands.hpp"
#include "spectrace/measure/catalogue.hpp"
#include "spectrace/model/adapter.hpp"

namespace spectrace {

int command_families(const CommandLine& line) {
  const std::vector<FamilyInfo> all = families();
  // Every family has an adapter for the whole of it, so none lacks an analysis by its kind.
  const std::vector<std::string> analyses = analysis_names();
  if (line.as_json) {
    Json json = Json::array();
    for (const FamilyInfo& family : all)
      json.push_back({{"model_type", family.model_type},
                      {"class", family.class_name},
                      {"text_part_of", family.part_of},
                      {"analyses", analyses}});
    fmt::print("{}\n", json.dump(2));
    return kAllDone;
  }
  std::size_t types = 0, classes = 0;
  for (const FamilyInfo& family : all) {
    types = std::max(types, family.model_type.size());
    classes = std::max(classes, family.class_name.size());
  }
  for (const FamilyInfo& family : all)
    fmt::print(
        "{:<{}}  {:<{}}{}\n", family.model_type, types, family.class_name, family.part_of.empty() ? 0 : classes,
        family.part_of.empty() ? "" : fmt::format("  also the text part of {}", fmt::join(family.part_of, ", ")));
  fmt::print(
      "\n{} families, each with all analyses ({}). A model of more than text is measured by its text part, if that is "
      "of "
      "one of them. Of any other checkpoint: tensors.\n",
      all.size(), fmt::join(analyses, ", "));
  return kAllDone;
}

}  // namespace spectrace
