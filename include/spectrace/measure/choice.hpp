#pragma once

#include <string>
#include <vector>

#include "spectrace/measure/analysis.hpp"

namespace spectrace {

/// An analysis, with what the job says of it.
struct Chosen {
  const Analysis* analysis = nullptr;
  Settings settings = {};

  const std::string& name() const { return analysis->name(); }
  const PromptAnalysis* of_prompts() const { return dynamic_cast<const PromptAnalysis*>(analysis); }
  const LayerAnalysis* of_layers() const { return dynamic_cast<const LayerAnalysis*>(analysis); }
  const RowsAnalysis* of_rows() const { return dynamic_cast<const RowsAnalysis*>(analysis); }
  bool is_of_prompts() const { return of_prompts() != nullptr; }

  /// Those that the settings ask for.
  std::vector<const Quantity*> quantities() const;
  bool has_set_quantities() const { return !analysis->info().set_quantities.empty(); }
  /// Sizes of all its dimensions.
  Extents extents(const ModelDescription& model, Slicing slicing, std::int64_t longest_prompt = 0,
                  std::int64_t num_prompts = 0) const;
};

/// Analyses, in the catalogue's order.
class AnalysisChoice {
 public:
  AnalysisChoice() = default;
  explicit AnalysisChoice(std::vector<Chosen> chosen) : chosen_(std::move(chosen)) {}
  /// Of these names, as a job has them that says nothing else. @pre there are such analyses.
  static AnalysisChoice of(const std::vector<std::string>& names);
  /// What a job computes that names no analyses.
  static AnalysisChoice by_default();

  auto begin() const { return chosen_.begin(); }
  auto end() const { return chosen_.end(); }
  bool empty() const { return chosen_.empty(); }
  bool has(const std::string& name) const { return find(name) != nullptr; }
  const Chosen* find(const std::string& name) const;
  std::vector<std::string> names() const;

  bool any_of_prompts() const;
  AnalysisChoice of_prompts() const;
  AnalysisChoice of_weights() const;                             ///< the others: of layers, rows, tensors
  AnalysisChoice possible(const ModelDescription& model) const;  ///< those that the model can have

 private:
  std::vector<Chosen> chosen_;
};

/// What all analyses of prompts of the choice together want to see, and what comes with it.
PromptWants wants_of(const AnalysisChoice& analyses);

}  // namespace spectrace
