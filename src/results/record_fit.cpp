#include "spectrace/results/record_fit.hpp"

#include <algorithm>

#include "spectrace/core/json.hpp"
#include "spectrace/measure/prompts.hpp"
#include "spectrace/results/layout.hpp"

namespace spectrace {
namespace {

using Shape = std::vector<std::int64_t>;

std::string find_array_misfit(const Record& record, const std::string& name, const Shape& shape) {
  const auto array = record.arrays.find(name);
  if (array == record.arrays.end()) return "array '" + name + "' is absent";
  return array->second.shape == shape ? "" : "array '" + name + "' has another shape";
}

/// A unit of weights has one layer of the analysis' quantities, or all of them, and no other array: it would be looked
/// for in the results in vain.
std::string find_weights_misfit(const Record& record, const Chosen& chosen, const ModelDescription& model,
                                Slicing slicing) {
  const auto quantities = chosen.quantities();
  if (record.arrays.size() != quantities.size()) return "it has another number of arrays";
  const Extents extents = chosen.extents(model, slicing);
  for (const Quantity* quantity : quantities)
    if (auto misfit = find_array_misfit(record, quantity->name, shape_of(*quantity, extents, "layer")); !misfit.empty())
      return misfit;
  return "";
}

/// One matrix of the analysis' quantities: as many singular values as it has, one of each of the others.
std::string find_tensor_misfit(const Record& record, const Chosen& chosen, const StoredMatrix& matrix) {
  const auto quantities = chosen.quantities();
  if (record.arrays.size() != quantities.size()) return "it has another number of arrays";
  const Shape values = {matrix.num_singular_values()};
  for (const Quantity* quantity : quantities) {
    const bool is_values = quantity->dims.back() == "index";
    if (auto misfit = find_array_misfit(record, quantity->name, is_values ? values : Shape()); !misfit.empty())
      return misfit;
  }
  return "";
}

std::string find_errors_misfit(const Record& record, const BatchWork& batch) {
  const auto errors = record.texts.find(kPromptErrors);
  return errors == record.texts.end() || errors->second.size() == batch.prompts.size()
             ? ""
             : "it has errors of another number of prompts";
}

/// What was measured of the batch: arrays as the measurement makes them.
std::string find_measured_misfit(const Record& record, const BatchWork& batch, const ModelDescription& model,
                                 const ModelPlan& plan) {
  const PlannedSet& set = plan.sets[batch.set];
  for (const Chosen& chosen : set.analyses) {
    const Extents extents = chosen.extents(model, Slicing::correct, longest_prompt(plan, batch));
    for (const Quantity* quantity : chosen.quantities()) {
      if (!quantity->derived.from.empty()) continue;
      Shape shape = shape_of(*quantity, extents, "prompt");
      shape.insert(shape.begin(), static_cast<std::int64_t>(batch.prompts.size()));
      if (auto misfit = find_array_misfit(record, quantity->name, shape); !misfit.empty()) return misfit;
    }
  }
  return find_errors_misfit(record, batch);
}

}  // namespace

std::string find_misfit(const Record& record, const Unit& unit, const ModelDescription& model, const ModelPlan& plan,
                        Slicing slicing) {
  if (!record.error.empty()) return "";
  if (const BatchWork* batch = unit.of_batch()) return find_measured_misfit(record, *batch, model, plan);
  if (const RowsWork* rows = unit.of_rows(); rows != nullptr && rows->is_part)
    return rows->analysis->fits(record, model, rows->rows) ? "" : "it is no part of the " + rows->analysis->name();
  if (const TensorWork* tensor = unit.of_tensor())
    return find_tensor_misfit(record, *plan.of_weights.find(tensor->analysis->name()), tensor->matrix);
  return find_weights_misfit(record, *plan.of_weights.find(unit.analysis()->name()), model, slicing);
}

std::string find_state_misfit(const Record& record, const Unit& unit, const ModelDescription& model,
                              const ModelPlan& plan) {
  const BatchWork* batch = unit.of_batch();
  if (batch == nullptr) return "it is of a unit that is not done in parts";
  if (auto misfit = find_measured_misfit(record, *batch, model, plan); !misfit.empty()) return misfit;
  if (batch->is_predicted) {
    const auto num_prompts = static_cast<std::int64_t>(batch->prompts.size());
    const Shape shape = {num_prompts, model.num_layers + 1, model.hidden_size};
    if (auto misfit = find_array_misfit(record, kLastTokens, shape); !misfit.empty()) return misfit;
  }
  return find_array_misfit(record, "hidden", {batch->num_tokens, model.hidden_size});
}

std::string find_misfit(const Record& record, const std::string& key) {
  const auto texts = [&](const char* name) -> const std::vector<std::string>* {
    const auto place = record.texts.find(name);
    return place == record.texts.end() ? nullptr : &place->second;
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
