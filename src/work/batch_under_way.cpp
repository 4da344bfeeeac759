#include "batch_under_way.hpp"

#include <ATen/ATen.h>

namespace spectrace {

BatchUnderWay::BatchUnderWay(const OpenModel& model, const ModelPlan& plan, std::size_t unit_index)
    : unit(unit_index),
      tokens(batch_of(plan, *plan.units[unit_index].of_batch())),
      measurement(model.description, tokens, plan.sets[plan.units[unit_index].of_batch()->set].analyses) {}

BatchState BatchUnderWay::state() const {
  BatchState state{next_layer, measurement.so_far()};
  for (const auto& [name, text] : texts) state.record.texts[name] = text;
  const Tensor numbers = Device::to_host(hidden).to(at::kDouble).contiguous();
  const auto* first = numbers.const_data_ptr<double>();
  state.record.arrays["hidden"] = {numbers.sizes().vec(), {first, first + numbers.numel()}};
  return state;
}

void BatchUnderWay::go_on_from(const BatchState& state, ComputeType type, const Device& device) {
  measurement.go_on_from(state.record);
  const Array& numbers = state.record.arrays.at("hidden");
  const Tensor here = at::empty(numbers.shape, scalar_type(type));
  here.copy_(at::from_blob(const_cast<double*>(numbers.values.data()), numbers.shape, at::kDouble));
  hidden = device.bring(here);
  next_layer = state.next_layer;
  texts = state.record.texts;
  texts.erase(kPromptErrors);  // the measurement has them
}

}  // namespace spectrace
