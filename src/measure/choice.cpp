#include "spectrace/measure/choice.hpp"

#include <algorithm>

#include "spectrace/core/error.hpp"
#include "spectrace/measure/catalogue.hpp"

namespace spectrace {

std::vector<const Quantity*> Chosen::quantities() const {
  std::vector<const Quantity*> asked;
  for (const Quantity& quantity : analysis->info().quantities)
    if (quantity.option.empty() || settings.value(quantity.option, false)) asked.push_back(&quantity);
  return asked;
}

Extents Chosen::extents(const ModelDescription& model, Slicing slicing, std::int64_t longest_prompt,
                        std::int64_t num_prompts) const {
  Extents extents = {{"layer", model.num_layers}, {"head", model.num_heads}, {"boundary", model.num_layers + 1}};
  for (const auto& dimension : analysis->dimensions({model, slicing, settings, longest_prompt, num_prompts}))
    extents[dimension.info.name] = size_of(dimension.values);
  return extents;
}

AnalysisChoice AnalysisChoice::of(const std::vector<std::string>& names) {
  std::vector<Chosen> chosen;
  for (const Analysis* analysis : catalogue())
    if (std::find(names.begin(), names.end(), analysis->name()) != names.end())
      chosen.push_back({analysis, analysis->complete(std::nullopt)});
  SPECTRACE_ASSERT(chosen.size() == names.size());
  return AnalysisChoice(std::move(chosen));
}

AnalysisChoice AnalysisChoice::by_default() {
  std::vector<std::string> names;
  for (const Analysis* analysis : catalogue())
    if (analysis->info().is_default) names.push_back(analysis->name());
  return of(names);
}

const Chosen* AnalysisChoice::find(const std::string& name) const {
  const auto place = std::find_if(begin(), end(), [&](const Chosen& chosen) { return chosen.name() == name; });
  return place == end() ? nullptr : &*place;
}

std::vector<std::string> AnalysisChoice::names() const {
  std::vector<std::string> names;
  for (const Chosen& chosen : chosen_) names.push_back(chosen.name());
  return names;
}

bool AnalysisChoice::any_of_prompts() const { return std::any_of(begin(), end(), std::mem_fn(&Chosen::is_of_prompts)); }

AnalysisChoice AnalysisChoice::of_prompts() const {
  std::vector<Chosen> chosen;
  std::copy_if(begin(), end(), std::back_inserter(chosen), std::mem_fn(&Chosen::is_of_prompts));
  return AnalysisChoice(std::move(chosen));
}

AnalysisChoice AnalysisChoice::of_weights() const {
  std::vector<Chosen> chosen;
  std::copy_if(begin(), end(), std::back_inserter(chosen), std::not_fn(std::mem_fn(&Chosen::is_of_prompts)));
  return AnalysisChoice(std::move(chosen));
}

AnalysisChoice AnalysisChoice::possible(const ModelDescription& model) const {
  std::vector<Chosen> chosen;
  std::copy_if(begin(), end(), std::back_inserter(chosen),
               [&](const Chosen& one) { return one.analysis->lacks(model).empty(); });
  return AnalysisChoice(std::move(chosen));
}

PromptWants wants_of(const AnalysisChoice& analyses) {
  PromptWants all;
  for (const Chosen& chosen : analyses)
    if (const PromptAnalysis* analysis = chosen.of_prompts()) all = all | analysis->wants();
  all.attention |= all.mean_attention || all.graph_spectra || all.scores;  // they come with it
  return all;
}

}  // namespace spectrace
