#include "spectrace/plan/calibration.hpp"

#include <ATen/ATen.h>

#include <algorithm>

#include "spectrace/core/stopwatch.hpp"
#include "spectrace/measure/prompts.hpp"
#include "spectrace/measure/slicing.hpp"
#include "spectrace/measure/weight_spectra.hpp"
#include "spectrace/model/forward.hpp"
#include "spectrace/numerics/singular_values.hpp"
#include "spectrace/numerics/spectral_summary.hpp"
#include "spectrace/plan/cost.hpp"
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
    if (unit.kind == UnitKind::prompts) batches.push_back(&unit);
  if (batches.empty()) return nullptr;
  const auto middle = batches.begin() + static_cast<std::ptrdiff_t>(batches.size() / 2);
  std::nth_element(batches.begin(), middle, batches.end(),
                   [](const Unit* a, const Unit* b) { return a->flops < b->flops; });
  return *middle;
}

double prompts_rate(const OpenModel& model, const ModelPlan& plan, const Job& job, const Unit& unit, std::int64_t layer,
                    const LayerWeights& weights, const std::vector<ValueSpectrum>& values) {
  const TokenBatch batch = batch_of(plan, unit);
  const Tensor first = embed(model.description, model.store, batch, job.compute.dtype).hidden;
  const double seconds = seconds_of([&] {
    const AnalysisChoice& a = plan.analyses;
    PromptMeasurement measurement(model.description, batch,
                                  {a.attention, a.sheaf, a.residual, job.graph_eigenvalues, job.beta.values()});
    Tensor hidden = first.clone();
    AttentionObserver observe;
    if (measurement.needs_attention())
      observe = [&](std::int64_t prompt, std::int64_t first_head, const Tensor& attention) {
        measurement.see_attention(layer, prompt, first_head, attention, values);
      };
    run_block(model.description, layer, weights, batch, hidden, observe);
    measurement.see_boundary(layer + 1, hidden);
  });
  return unit.flops / static_cast<double>(model.description.num_layers) / seconds;
}

double unembedding_rate(const OpenModel& model) {
  const TensorInfo& tensor = *model.store.find(model.description.embedding.unembedding.tensor);
  const std::int64_t all_rows = tensor.shape[0], columns = tensor.shape[1];
  TallSingularValues tall(columns);
  std::int64_t num_added = 0;
  const auto seconds_to = [&](std::int64_t wanted) {
    const Stopwatch watch;
    const std::int64_t count = std::min(wanted, all_rows) - num_added;
    if (count == 0) return 0.0;
    const Tensor block = at::empty({count, columns}, tensor.type == StorageType::float64 ? at::kDouble : at::kFloat);
    model.store.read_rows(tensor, num_added, block);
    tall.add_rows(block);
    static_cast<void>(row_norms(block));
    num_added += count;
    return watch.elapsed_s();
  };
  // The first row that finds no room has those before it factorized; from then on each rows_at_once() - columns rows
  // cost one update.
  const std::int64_t first = tall.rows_at_once() + 1, period = std::max<std::int64_t>(1, first - 1 - columns);
  double all_s = seconds_to(first);
  const double period_s = seconds_to(first + period);
  all_s += period_s + period_s * static_cast<double>(all_rows - num_added) / static_cast<double>(period);
  const Stopwatch watch;
  tall.finish();
  all_s += watch.elapsed_s();
  return unembedding_flops(model.description) / std::max(all_s, 1e-9);
}

}  // namespace

WorkRates calibrate(const OpenModel& model, const ModelPlan& plan, const Job& job) {
  WorkRates rates;
  const ModelDescription& d = model.description;
  const std::int64_t layer = d.num_layers / 2;
  const Unit* batch = middle_batch(plan);
  const auto& analyses = plan.analyses;
  if (batch != nullptr || analyses.weights || analyses.heads) {
    const std::uint64_t read_before = model.store.bytes_read();
    const Stopwatch watch;
    const LayerWeights weights = read_layer(d, model.store, layer, job.compute.dtype);
    rates.read_bytes_per_s =
        static_cast<double>(model.store.bytes_read() - read_before) / std::max(watch.elapsed_s(), 1e-9);
    const SlicedWeights sliced = slice_weights(d, attention_weights(weights), job.slicing);
    std::vector<ValueSpectrum> values;
    double spectra_s = 0, flops = 0;
    if (analyses.heads || analyses.sheaf) {
      spectra_s += seconds_of([&] { values = value_spectra(sliced); });
      flops += value_spectra_flops(d);
    }
    if (analyses.heads) {
      spectra_s += seconds_of([&] { measure_heads(d, sliced, job.slicing, values); });
      flops += heads_flops(d) - value_spectra_flops(d);
    }
    if (analyses.weights) {
      spectra_s += seconds_of([&] { measure_matrices(sliced); });
      flops += matrices_flops(d);
    }
    if (flops > 0) rates.spectra_flops_per_s = flops / spectra_s;
    if (batch != nullptr) rates.prompt_flops_per_s = prompts_rate(model, plan, job, *batch, layer, weights, values);
  }
  if (analyses.unembedding) rates.unembedding_flops_per_s = unembedding_rate(model);
  return rates;
}

}  // namespace spectrace
