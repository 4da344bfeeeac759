#include "job_schema_template.hpp"
#include "spectrace/measure/catalogue.hpp"
#include "spectrace/plan/job.hpp"

namespace spectrace {
namespace {

Json analyses_schema() {
  std::string meaning = "What is computed.";
  Json by_default = Json::array();
  for (const Analysis* analysis : catalogue()) {
    meaning += " " + analysis->name() + ": " + analysis->info().meaning;
    if (analysis->info().is_default) by_default.push_back(analysis->name());
  }
  return {{"description", meaning},
          {"type", "array"},
          {"minItems", 1},
          {"uniqueItems", true},
          {"items", {{"enum", analysis_names()}}},
          {"default", by_default}};
}

Json section_schema(const AnalysisInfo& analysis) {
  return {{"description", analysis.section_meaning},
          {"type", "object"},
          {"additionalProperties", false},
          {"properties", analysis.section_schema}};
}

Json make_job_schema() {
  Json schema = Json::parse(job_schema_template());
  Json& properties = schema.at("properties");
  Json quantities = Json::array(), large = Json::array();
  for (const Analysis* analysis : catalogue()) {
    const AnalysisInfo& info = analysis->info();
    if (info.section_schema.is_object()) properties[info.name] = section_schema(info);
    if (!info.group.empty()) continue;
    for (const Quantity& quantity : info.quantities) {
      if (can_be_kept(quantity)) quantities.push_back(quantity.name);
      if (quantity.keep == Keep::if_asked) large.push_back(quantity.name);
    }
  }
  properties["analyses"] = analyses_schema();
  schema.at("definitions").at("quantity")["enum"] = quantities;
  std::string names;
  for (const auto& name : large) names += (names.empty() ? "" : ", ") + name.get<std::string>();
  properties.at("keep")["description"] =
      "Which per-prompt values are stored beside their statistics. all: every one. most: all but those that make files "
      "many times larger (" +
      names + "). statistics: none. A list: those quantities. Prompt ids, token ids and errors are always kept.";
  return schema;
}

}  // namespace

const Json& job_schema() {
  static const Json schema = make_job_schema();
  return schema;
}

}  // namespace spectrace
