#include "batch_under_way.hpp"

#include <ATen/ATen.h>

#include "spectrace/core/stage_times.hpp"

namespace spectrace {

BatchUnderWay::BatchUnderWay(const OpenModel& model, const ModelPlan& plan, std::size_t unit_index)
    : unit(unit_index),
      tokens(batch_of(plan, *plan.units[unit_index].of_batch())),
      measurement(model.description, tokens, plan.sets[plan.units[unit_index].of_batch()->set].analyses),
      final_flops(spectrace::final_flops(model.description, plan, *plan.units[unit_index].of_batch())),
      layer_flops((plan.units[unit_index].flops - final_flops) / static_cast<double>(model.description.num_layers)) {}

void BatchUnderWay::embed(const OpenModel& model, ComputeType type, const Device& device) {
  Embedded embedded = spectrace::embed(model.description, model.store, tokens, type, device);
  hidden = std::move(embedded.hidden);
  for (std::size_t prompt = 0; prompt < embedded.prompt_errors.size(); ++prompt)
    measurement.fail(static_cast<std::int64_t>(prompt), embedded.prompt_errors[prompt]);
  measurement.see_boundary(0, hidden);
}

void BatchUnderWay::normalize(const OpenModel& model) {
  normed = apply_final_norm(model.description, model.store, hidden);
  measurement.see_final_norm(normed);
}

Record BatchUnderWay::finish() {
  Record record = measurement.finish();
  record.texts.merge(texts);
  return record;
}

BlockBatch BatchUnderWay::in_block(std::int64_t layer, const std::vector<ValueSpectrum>& values) {
  measurement.see_entering(layer, hidden);
  BlockBatch batch{.tokens = &tokens, .hidden = hidden};
  if (measurement.wants().writes) batch.writes = &writes;
  batch.wants_scores = measurement.wants().scores;
  if (measurement.wants().attention)
    batch.observe = [this, &values, layer](std::int64_t prompt, std::int64_t first_head, const Tensor& a,
                                           const RowScores& scores) {
      const TaskStageTimer timer(Stage::forward, Stage::statistics);
      measurement.see_attention(layer, prompt, first_head, a, values, scores);
    };
  return batch;
}

void BatchUnderWay::see_block(std::int64_t layer) {
  if (measurement.wants().writes) measurement.see_writes(layer, writes);
  measurement.see_boundary(layer + 1, hidden);
  next_layer = layer + 1;
}

double BatchUnderWay::flops_of_statistics(const ModelDescription& model, const ModelPlan& plan) const {
  const BatchWork& work = *plan.units[unit].of_batch();
  const PlannedSet& set = plan.sets[work.set];
  double flops = 0;
  for (const std::size_t prompt : work.prompts)
    flops += measurement_flops(model, set.analyses, set.prompts[prompt].num_tokens());
  return flops;
}

BatchState BatchUnderWay::state() const {
  BatchState state{next_layer, measurement.so_far()};
  for (const auto& [name, text] : texts) state.record.texts[name] = text;
  state.record.arrays["hidden"] = as_array(hidden);
  return state;
}

void BatchUnderWay::go_on_from(const BatchState& state, ComputeType type, const Device& device) {
  measurement.go_on_from(state.record, type, device);
  hidden = device.bring(as_tensor(state.record.arrays.at("hidden"), type));
  next_layer = state.next_layer;
  texts = state.record.texts;
  texts.erase(kPromptErrors);  // the measurement has them
}

}  // namespace spectrace
