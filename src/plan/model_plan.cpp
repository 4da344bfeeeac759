#include "spectrace/plan/model_plan.hpp"

#include <algorithm>
#include <numeric>
#include <set>
#include <span>

#include "spectrace/core/error.hpp"
#include "spectrace/core/hash.hpp"
#include "spectrace/measure/prompts.hpp"
#include "spectrace/measure/stored_spectrum.hpp"
#include "spectrace/model/layer_parts.hpp"
#include "spectrace/model/prediction.hpp"
#include "spectrace/numerics/version.hpp"
#include "spectrace/plan/cost.hpp"

namespace spectrace {
namespace {

std::string text_of(const Json& facts) { return facts.dump(-1, ' ', false, Json::error_handler_t::replace); }

/// Everything that the bits of an analysis depend on beside its matrices or prompts, and which quantities it has: a
/// record of a version that knew fewer is another one.
Json facts_of(const Chosen& chosen, const PlanOptions& options) {
  Json settings = Json::array(), quantities = Json::array();
  for (const Setting& setting : settings_of(chosen, options)) settings.push_back({setting.name, setting.value});
  for (const Quantity* quantity : chosen.quantities()) quantities.push_back(quantity->name);
  return {chosen.name(), settings, quantities};
}

/// Names units: readable, with the first 64 bits of a SHA-256 over everything that their records' bits depend on. What
/// all units of an analysis or of a set share is written down once.
class Keys {
 public:
  Keys(const PlanOptions& options, std::span<const Chosen> analyses) {
    Json facts = {kNumericsVersion, options.config};
    for (const Chosen& chosen : analyses) facts.push_back(facts_of(chosen, options));
    shared_ = text_of(facts);
  }

  std::string of(const std::string& readable) const { return of(readable, {}, {}); }
  std::string of(const std::string& readable, const StoredMatrix& matrix) const {
    Sha256 sha;
    sha.update(shared_);
    Json facts = {matrix.tensor, matrix.rows, matrix.columns, matrix.slice.value_or(-1)};
    if (const auto& cut = matrix.cut)
      facts.push_back({cut->first_row, cut->first_column, cut->column_step, cut->stored_rows, cut->stored_columns});
    sha.update(text_of(facts));
    return readable + "-" + sha.hex_digest().substr(0, 16);
  }
  /// For each prompt of the batch its number of tokens and their ids.
  std::string of(const std::string& readable, const PreparedSet& set, const std::vector<std::size_t>& prompts) const {
    Sha256 sha;
    sha.update(shared_);
    for (const std::size_t prompt : prompts) {
      const auto& ids = set.prompts[prompt].token_ids;
      const auto length = static_cast<std::int64_t>(ids.size());
      sha.update(std::as_bytes(std::span(&length, 1)));
      sha.update(std::as_bytes(std::span(ids)));
    }
    return readable + "-" + sha.hex_digest().substr(0, 16);
  }

 private:
  std::string shared_;
};

void add_layers(const ModelDescription& model, const PlanOptions& options, ModelPlan& plan) {
  std::vector<std::pair<const Chosen*, Keys>> measured;
  for (const Chosen& chosen : plan.of_weights)
    if (chosen.of_layers() != nullptr) measured.emplace_back(&chosen, Keys(options, std::span(&chosen, 1)));
  for (std::int64_t layer = 0; layer < model.num_layers; ++layer)
    for (const auto& [chosen, keys] : measured) {
      const LayerWork work{chosen->of_layers(), layer};
      if (roles_of(model, work).empty()) continue;
      plan.units.push_back({.work = work,
                            .key = keys.of(chosen->name() + "/" + std::to_string(layer)),
                            .flops = work.analysis->flops(model)});
    }
}

void add_rows(const ModelDescription& model, const PlanOptions& options, ModelPlan& plan) {
  for (const Chosen& chosen : plan.of_weights) {
    const RowsAnalysis* analysis = chosen.of_rows();
    if (analysis == nullptr) continue;
    const Keys keys(options, std::span(&chosen, 1));
    const auto parts = analysis->parts(model);
    for (std::size_t part = 0; part < parts.size(); ++part)
      plan.units.push_back({.work = RowsWork{analysis, parts[part], parts.size() > 1},
                            .key = keys.of(chosen.name() + (parts.size() > 1 ? "/" + std::to_string(part) : "")),
                            .flops = analysis->flops(model, parts[part])});
  }
}

void add_tensors(const ModelDescription& model, const PlanOptions& options, ModelPlan& plan) {
  for (const Chosen& chosen : plan.of_weights) {
    const Keys keys(options, std::span(&chosen, 1));
    for (PlacedMatrix& placed : chosen.analysis->matrices(model, chosen.settings)) {
      std::string key = keys.of(chosen.name() + "/" + shown_text(placed.matrix.name), placed.matrix);
      const double flops = stored_spectrum_flops(placed.matrix);
      plan.units.push_back({.work = TensorWork{chosen.analysis, placed.place, std::move(placed.matrix)},
                            .key = std::move(key),
                            .flops = flops});
    }
  }
}

void add_batches(const ModelDescription& model, const PlanOptions& options, ModelPlan& plan) {
  const auto block_parameters = static_cast<double>(num_block_parameters(model));
  for (std::size_t s = 0; s < plan.sets.size(); ++s) {
    const PlannedSet& set = plan.sets[s];
    const auto batches = make_batches(set, options.tokens_per_batch);
    const Keys keys(options, set.analyses);
    for (std::size_t b = 0; b < batches.size(); ++b) {
      BatchWork batch{s, batches[b], 0, wants_of(set.analyses).predictions};
      double flops = final_flops(model, plan, batch);
      for (const std::size_t prompt : batches[b]) {
        const std::int64_t length = set.prompts[prompt].num_tokens();
        batch.num_tokens += length;
        flops += prompt_flops(model, block_parameters, set.analyses, length);
      }
      plan.units.push_back({.work = std::move(batch),
                            .key = keys.of("prompts/" + set.name + "/" + std::to_string(b), set, batches[b]),
                            .flops = flops});
    }
  }
}

}  // namespace

std::string PreparedSet::digest() const {
  Sha256 sha;
  for (const auto& prompt : prompts) sha.update(text_of({prompt.id, prompt.token_ids, prompt.error}) + "\n");
  return sha.hex_digest();
}

std::int64_t PreparedSet::longest_prompt() const {
  std::int64_t longest = 0;
  for (const auto& prompt : prompts)
    if (prompt.error.empty()) longest = std::max(longest, prompt.num_tokens());
  return longest;
}

Circumstances circumstances_of(const PlannedSet& set, const Chosen& chosen, const ModelDescription& model,
                               Slicing slicing) {
  return {model, slicing, chosen.settings, set.longest_prompt(), std::ssize(set.prompts)};
}

std::vector<PlannedSet> planned(std::vector<PreparedSet> sets, const AnalysisChoice& analyses) {
  std::vector<PlannedSet> all;
  for (auto& set : sets) all.push_back({std::move(set), analyses.of_prompts(), 0, 0});
  return all;
}

const Analysis* Unit::analysis() const {
  if (const LayerWork* layer = of_layer()) return layer->analysis;
  if (const RowsWork* rows = of_rows()) return rows->analysis;
  if (const TensorWork* tensor = of_tensor()) return tensor->analysis;
  return nullptr;
}

double ModelPlan::total_flops() const {
  return std::accumulate(units.begin(), units.end(), 0.0,
                         [](double sum, const Unit& unit) { return sum + unit.flops; });
}

PromptWants ModelPlan::wants() const {
  PromptWants all;
  for (const PlannedSet& set : sets) all = all | wants_of(set.analyses);
  return all;
}

std::vector<std::vector<std::size_t>> make_batches(const PreparedSet& set, std::int64_t tokens_per_batch) {
  std::vector<std::vector<std::size_t>> batches;
  std::int64_t used = 0;
  for (std::size_t i = 0; i < set.prompts.size(); ++i) {
    if (!set.prompts[i].error.empty()) continue;
    const std::int64_t length = set.prompts[i].num_tokens();
    if (batches.empty() || used + length > tokens_per_batch) {
      batches.emplace_back();
      used = 0;
    }
    batches.back().push_back(i);
    used += length;
  }
  return batches;
}

ModelPlan plan_model(const ModelDescription& model, const AnalysisChoice& of_weights, std::vector<PlannedSet> sets,
                     const PlanOptions& options) {
  ModelPlan plan;
  plan.of_weights = of_weights.of_weights();
  std::erase_if(sets, [](const PlannedSet& set) { return set.analyses.empty(); });
  plan.sets = std::move(sets);
  for (PlannedSet& set : plan.sets) {
    set.fixed_values = num_values_of_prompt(model, set.analyses, 0);
    set.values_per_token = num_values_of_prompt(model, set.analyses, 1) - set.fixed_values;
  }
  add_layers(model, options, plan);
  add_rows(model, options, plan);
  add_tensors(model, options, plan);
  add_batches(model, options, plan);
  return plan;
}

TokenBatch batch_of(const ModelPlan& plan, const BatchWork& batch) {
  TokenBatch tokens;
  tokens.row_start.push_back(0);
  for (const std::size_t prompt : batch.prompts) {
    const auto& ids = plan.sets[batch.set].prompts[prompt].token_ids;
    tokens.token_ids.insert(tokens.token_ids.end(), ids.begin(), ids.end());
    tokens.row_start.push_back(tokens.num_tokens());
  }
  return tokens;
}

std::int64_t longest_prompt(const ModelPlan& plan, const BatchWork& batch) {
  std::int64_t longest = 0;
  for (const std::size_t prompt : batch.prompts)
    longest = std::max(longest, plan.sets[batch.set].prompts[prompt].num_tokens());
  return longest;
}

double final_flops(const ModelDescription& model, const ModelPlan& plan, const BatchWork& batch) {
  double flops = 0;
  if (batch.is_predicted)
    for (const std::size_t prompt : batch.prompts)
      flops += prediction_flops(model, plan.sets[batch.set].prompts[prompt].num_tokens());
  return flops;
}

namespace {

void add_names(std::set<std::string>& names, const TensorSource& source) {
  if (source.tensor.empty()) return;
  names.insert(source.tensor);
  names.insert(source.stacked.begin(), source.stacked.end());
}

/// What a forward pass reads of the model: not the way from hidden states to tokens.
std::vector<std::string> tensors_of_forward(ModelDescription used) {
  used.embedding.project_out.reset();
  used.embedding.unembedding_bias.reset();
  used.embedding.has_unembedding = false;
  std::set<std::string> names;
  for (const TensorSource* source : used.all_sources()) add_names(names, *source);
  return {names.begin(), names.end()};
}

}  // namespace

MatrixRoles roles_of(const ModelDescription& model, const LayerWork& work) {
  return roles_in(model.layers[static_cast<std::size_t>(work.layer)], work.analysis->needs(model));
}

std::vector<std::string> tensors_of(const ModelDescription& model, const Unit& unit) {
  if (const BatchWork* batch = unit.of_batch()) {
    std::vector<std::string> of_forward = tensors_of_forward(model);
    if (!batch->is_predicted) return of_forward;
    std::set<std::string> names(of_forward.begin(), of_forward.end());
    names.merge(tensors_of_prediction(model));
    return {names.begin(), names.end()};
  }
  if (const TensorWork* work = unit.of_tensor()) return {work->matrix.tensor};
  std::set<std::string> names;
  if (const RowsWork* rows = unit.of_rows()) {
    if (!rows->is_part) add_names(names, rows->analysis->matrix(model));
  } else if (const LayerWork* work = unit.of_layer()) {
    const LayerSources& layer = model.layers[static_cast<std::size_t>(work->layer)];
    for (const MatrixRole role : roles_of(model, *work)) add_names(names, source_of(layer, role).weight);
  }
  return {names.begin(), names.end()};
}

std::vector<std::string> tensors_of_layers(const ModelDescription& model, std::int64_t first, std::int64_t last) {
  ModelDescription used = model;
  used.layers.assign(model.layers.begin() + first, model.layers.begin() + last);
  used.embedding.final_norm.reset();
  if (first > 0) used.embedding = EmbeddingSources();
  return tensors_of_forward(std::move(used));
}

}  // namespace spectrace
