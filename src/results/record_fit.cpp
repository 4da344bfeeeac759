#include "spectrace/results/record_fit.hpp"

#include <algorithm>

#include "spectrace/measure/slicing.hpp"
#include "spectrace/results/assemble.hpp"
#include "spectrace/store/schema.hpp"

namespace spectrace {
namespace {

using Shape = std::vector<std::int64_t>;

std::string find_misfit(const Record& record, const std::string& name, const Shape& shape) {
  const auto found = record.arrays.find(name);
  if (found == record.arrays.end()) return "array '" + name + "' is absent";
  return found->second.shape == shape ? "" : "array '" + name + "' has another shape";
}

/// Datasets (layer, ...) of which a unit has one layer.
std::string find_layer_misfit(const Record& record, const std::vector<DatasetSpec>& schema,
                              const ModelDescription& model, std::int64_t index_size) {
  // Another array would be looked for in the results in vain.
  if (record.arrays.size() != schema.size()) return "it has another number of arrays";
  for (const auto& spec : schema) {
    Shape shape;
    for (const auto& dim : spec.dims) {
      if (dim == "matrix") shape.push_back(static_cast<std::int64_t>(kMatrixNames.size()));
      if (dim == "head") shape.push_back(model.num_heads);
      if (dim == "index") shape.push_back(index_size);
    }
    if (auto misfit = find_misfit(record, spec.name, shape); !misfit.empty()) return misfit;
  }
  return "";
}

std::string find_unembedding_misfit(const Record& record) {
  for (const auto& spec : unembedding_schema()) {
    const auto found = record.arrays.find(spec.name);
    if (found == record.arrays.end()) return "array '" + spec.name + "' is absent";
    if (found->second.shape.size() != spec.dims.size() || (spec.dims.empty() && found->second.values.size() != 1))
      return "array '" + spec.name + "' has another shape";
  }
  return "";
}

PromptAnalyses analyses_of(const ModelPlan& plan, const Job& job) {
  return {plan.analyses.attention, plan.analyses.sheaf, plan.analyses.residual, job.graph_eigenvalues,
          job.beta.values()};
}

std::string find_prompts_misfit(const Record& record, const Unit& unit, const ModelDescription& model,
                                const ModelPlan& plan, const Job& job) {
  const auto num_prompts = unit.prompts.size();
  if (const auto errors = record.texts.find("prompt_errors");
      errors != record.texts.end() && errors->second.size() != num_prompts)
    return "it has errors of another number of prompts";
  const PromptAnalyses analyses = analyses_of(plan, job);
  for (const auto* quantity : quantities_of(analyses)) {
    const DatasetSpec& spec = quantity->dataset;
    if (!quantity->is_stored) continue;  // made from another one
    const auto found = record.arrays.find(spec.name);
    if (found == record.arrays.end()) return "array '" + spec.name + "' is absent";
    // As wide as the batch's longest prompt.
    const std::int64_t longest = found->second.shape.empty() ? 0 : found->second.shape.back();
    Shape shape = slot_shape(spec, model, static_cast<std::int64_t>(analyses.beta.size()), longest);
    shape.insert(shape.begin(), static_cast<std::int64_t>(num_prompts));
    if (found->second.shape != shape) return "array '" + spec.name + "' has another shape";
    std::size_t most = 0;
    for (const auto& prompt : plan.sets[unit.set].prompts) most = std::max(most, prompt.token_ids.size());
    if (spec.name == "graph_eigenvalues" && longest > static_cast<std::int64_t>(most))
      return "array '" + spec.name + "' is wider than the set's longest prompt";
  }
  return "";
}

}  // namespace

std::string find_misfit(const Record& record, const Unit& unit, const ModelDescription& model, const ModelPlan& plan,
                        const Job& job) {
  if (!record.error.empty()) return "";
  switch (unit.kind) {
    case UnitKind::matrices:
      return find_layer_misfit(record, weights_schema(), model,
                               std::min(model.num_heads * model.head_dim, model.hidden_size));
    case UnitKind::heads: return find_layer_misfit(record, heads_schema(), model, head_index_size(model, job.slicing));
    case UnitKind::unembedding:
      if (!is_part(unit, model)) return find_unembedding_misfit(record);
      return UnembeddingParts::fits(record, unit.rows, model.embedding.unembedding.canonical_shape()[1])
                 ? ""
                 : "it is no part of the unembedding";
    case UnitKind::prompts: break;
  }
  return find_prompts_misfit(record, unit, model, plan, job);
}

std::string find_state_misfit(const Record& record, const Unit& unit, const ModelDescription& model,
                              const ModelPlan& plan, const Job& job) {
  if (unit.kind != UnitKind::prompts) return "it is of a unit that is not done in parts";
  const TokenBatch batch = batch_of(plan, unit);
  const Record expected = PromptMeasurement(model, batch, analyses_of(plan, job)).so_far();
  for (const auto& [name, array] : expected.arrays)
    if (auto misfit = find_misfit(record, name, array.shape); !misfit.empty()) return misfit;
  if (const auto errors = record.texts.find("prompt_errors");
      errors != record.texts.end() && errors->second.size() != unit.prompts.size())
    return "it has errors of another number of prompts";
  return find_misfit(record, "hidden", {unit.num_tokens, model.hidden_size});
}

std::string find_misfit(const Record& record, const std::string& key) {
  const auto texts = [&](const char* name) -> const std::vector<std::string>* {
    const auto found = record.texts.find(name);
    return found == record.texts.end() ? nullptr : &found->second;
  };
  if (key.starts_with(kReportKey)) {
    const auto* report = texts("report");
    const bool is_report = report != nullptr && report->size() == 1 && Json::accept(report->front());
    return is_report ? "" : "it is no report of a rank";
  }
  if (!record.error.empty()) return "";
  const auto *tensors = texts("tensors"), *digests = texts("digests"), *fingerprint = texts("fingerprint");
  const bool is_signed = tensors != nullptr && digests != nullptr && fingerprint != nullptr &&
                         tensors->size() == digests->size() && fingerprint->size() == 1;
  return is_signed ? "" : "it does not say what it was made of";
}

}  // namespace spectrace
