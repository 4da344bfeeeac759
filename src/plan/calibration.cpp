#include "spectrace/plan/calibration.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <optional>

#include "spectrace/core/stopwatch.hpp"
#include "spectrace/measure/prompts.hpp"
#include "spectrace/measure/slicing.hpp"
#include "spectrace/measure/stored_spectrum.hpp"
#include "spectrace/model/forward.hpp"
#include "spectrace/plan/memory.hpp"

namespace spectrace {
namespace {

/// Repeats until it has taken long enough to be trusted; the fastest. Seconds.
template <typename F>
double seconds_of(const F& f) {
  constexpr double kLeast_s = 0.3;
  const Stopwatch all;
  double best = 1e300;
  do {
    const Stopwatch watch;
    f();
    best = std::min(best, watch.elapsed_s());
  } while (all.elapsed_s() < kLeast_s);
  return std::max(best, 1e-9);
}

/// The batch whose flops are the middle ones.
const Unit* middle_batch(const ModelPlan& plan) {
  std::vector<const Unit*> batches;
  for (const auto& unit : plan.units)
    if (unit.of_batch() != nullptr) batches.push_back(&unit);
  if (batches.empty()) return nullptr;
  const auto middle = batches.begin() + static_cast<std::ptrdiff_t>(batches.size() / 2);
  std::nth_element(batches.begin(), middle, batches.end(),
                   [](const Unit* a, const Unit* b) { return a->flops < b->flops; });
  return *middle;
}

double prompts_rate(const OpenModel& model, const ModelPlan& plan, const Job& job, const Unit& unit, std::int64_t layer,
                    const LayerWeights& weights, const std::vector<ValueSpectrum>& values) {
  const TokenBatch tokens = batch_of(plan, *unit.of_batch());
  const Tensor first = embed(model.description, model.store, tokens, job.compute.dtype).hidden;
  const double seconds = seconds_of([&] {
    PromptMeasurement measurement(model.description, tokens, plan.sets[unit.of_batch()->set].analyses);
    BlockBatch batch{.tokens = &tokens, .hidden = first.clone(), .wants_scores = measurement.wants().scores};
    if (measurement.wants().attention)
      batch.observe = [&](std::int64_t prompt, std::int64_t first_head, const Tensor& a, const RowScores& scores) {
        measurement.see_attention(layer, prompt, first_head, a, values, scores);
      };
    run_block(model.description, layer, weights, std::span(&batch, 1));
    if (batch.error) std::rethrow_exception(batch.error);
    measurement.see_boundary(layer + 1, batch.hidden);
  });
  return unit.flops / static_cast<double>(model.description.num_layers) / seconds;
}

/// A layer in the middle of those of which something is to be done.
std::optional<std::int64_t> middle_layer(const ModelDescription& model, const ModelPlan& plan) {
  std::vector<std::int64_t> layers;
  for (const Unit& unit : plan.units) {
    if (unit.of_batch() != nullptr) return model.num_layers / 2;
    if (const LayerWork* work = unit.of_layer()) layers.push_back(work->layer);
  }
  if (layers.empty()) return std::nullopt;
  std::sort(layers.begin(), layers.end());
  return layers[layers.size() / 2];
}

/// What spectra and prompts take of the layer.
MatrixRoles roles_measured(const ModelDescription& model, const ModelPlan& plan, Slicing slicing, std::int64_t layer) {
  MatrixRoles roles;
  if (plan.wants().value_spectra) roles.push_back(MatrixRole::w_v);
  for (const Unit& unit : plan.units)
    if (const LayerWork* work = unit.of_layer(); work != nullptr && work->layer == layer)
      add_roles(roles, roles_of(model, *work));
  return roles_to_slice(model, roles, slicing);
}

/// Of the layer's analyses, with the value spectra that they and prompts need; these are left in `values`.
double spectra_rate(const OpenModel& model, const ModelPlan& plan, const Job& job, std::int64_t layer,
                    const LayerMatrices& read, std::vector<ValueSpectrum>& values) {
  const ModelDescription& d = model.description;
  std::vector<const LayerAnalysis*> analyses;
  bool wants_values = plan.wants().value_spectra;
  for (const Unit& unit : plan.units) {
    const LayerWork* work = unit.of_layer();
    if (work == nullptr || work->layer != layer) continue;
    analyses.push_back(work->analysis);
    wants_values |= work->analysis->needs_value_spectra();
  }
  const LayerMatrices sliced = slice_matrices(d, read, job.slicing);
  double seconds = 0, flops = 0;
  if (wants_values) {
    seconds += seconds_of([&] { values = value_spectra(d, sliced.at(MatrixRole::w_v), job.slicing); });
    flops += value_spectra_flops(d);
  }
  for (const LayerAnalysis* analysis : analyses) {
    const LayerView view = analysis->view(d, read, sliced, job.slicing, values);
    seconds += seconds_of([&] { analysis->measure(view); });
    flops += analysis->flops(d) - (analysis->needs_value_spectra() ? value_spectra_flops(d) : 0);
  }
  return flops > 0 ? flops / seconds : 0;
}

/// Of all analyses of rows, each by a part as it is handed out: their mean by flops, as the plan has one rate for them.
double rows_rate(const OpenModel& model, const ModelPlan& plan, Slicing slicing) {
  double seconds = 0, flops = 0;
  for (const Chosen& chosen : plan.of_weights) {
    const RowsAnalysis* analysis = chosen.of_rows();
    if (analysis == nullptr) continue;
    const RowRange part = analysis->parts(model.description).front();
    const Stopwatch watch;
    analysis->measure(model.description, model.store, slicing, part, [](double) {});
    seconds += std::max(watch.elapsed_s(), 1e-9);
    flops += analysis->flops(model.description, part);
  }
  return flops > 0 ? flops / seconds : 0;
}

/// Of the stored matrix whose flops are the middle ones.
double tensors_rate(const OpenModel& model, const ModelPlan& plan) {
  std::vector<const Unit*> units;
  for (const Unit& unit : plan.units)
    if (unit.of_tensor() != nullptr) units.push_back(&unit);
  if (units.empty()) return 0;
  const auto middle = units.begin() + static_cast<std::ptrdiff_t>(units.size() / 2);
  std::nth_element(units.begin(), middle, units.end(),
                   [](const Unit* a, const Unit* b) { return a->flops < b->flops; });
  const TensorWork& work = *(*middle)->of_tensor();
  return (*middle)->flops / seconds_of([&] { stored_spectrum(model.store, work.matrix, [](double) {}); });
}

}  // namespace

WorkRates calibrate(const OpenModel& model, const ModelPlan& plan, const Job& job) {
  if (!model.problems.empty()) throw source_error(model.description, model.store, model.problems);
  WorkRates rates;
  const ModelDescription& d = model.description;
  const Unit* batch = middle_batch(plan);
  const auto layer = middle_layer(d, plan);
  if (layer) {
    const std::uint64_t read_before = model.store.bytes_read();
    const Stopwatch watch;
    LayerWeights weights;
    LayerMatrices matrices;
    const MatrixRoles roles = roles_measured(d, plan, job.slicing, *layer);
    if (batch != nullptr) {
      weights = read_layer(d, model.store, *layer, job.compute.dtype);
      matrices = matrices_of(weights, roles);
    } else {
      const ReadMatrices read = read_matrices(d, model.store, *layer, roles, job.compute.dtype);
      if (!read.errors.empty()) std::rethrow_exception(read.errors.begin()->second);
      matrices = read.matrices;
    }
    rates.read_bytes_per_s =
        static_cast<double>(model.store.bytes_read() - read_before) / std::max(watch.elapsed_s(), 1e-9);
    std::vector<ValueSpectrum> values;
    if (const double rate = spectra_rate(model, plan, job, *layer, matrices, values); rate > 0)
      rates.spectra_flops_per_s = rate;
    if (batch != nullptr) rates.prompt_flops_per_s = prompts_rate(model, plan, job, *batch, *layer, weights, values);
  }
  const bool any_of_layers =
      std::any_of(plan.units.begin(), plan.units.end(), [](const Unit& unit) { return unit.of_layer() != nullptr; });
  if (const double rate = tensors_rate(model, plan); rate > 0 && !any_of_layers) rates.spectra_flops_per_s = rate;
  if (const double rate = rows_rate(model, plan, job.slicing); rate > 0) rates.unembedding_flops_per_s = rate;
  return rates;
}

}  // namespace spectrace
