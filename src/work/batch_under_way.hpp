#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "spectrace/measure/prompts.hpp"
#include "spectrace/plan/model_plan.hpp"
#include "spectrace/plan/open_model.hpp"
#include "spectrace/work/pass.hpp"

namespace spectrace {

/// A batch of prompts on its way through the layers.
struct BatchUnderWay {
  BatchUnderWay(const OpenModel& model, const ModelPlan& plan, std::size_t unit_index);
  BatchUnderWay(const BatchUnderWay&) = delete;
  BatchUnderWay& operator=(const BatchUnderWay&) = delete;

  std::size_t unit;
  TokenBatch tokens;  // before the measurement, which refers to it
  PromptMeasurement measurement;
  Tensor hidden;  // [num_tokens, hidden_size]
  std::int64_t next_layer = 0;
  std::map<std::string, std::vector<std::string>> texts;  // of the state that it came with
  std::optional<std::string> error;

  bool runs_in(std::int64_t layer) const { return !error && next_layer == layer; }
  /// For the journal, or the next stage.
  BatchState state() const;
  void go_on_from(const BatchState& state, ComputeType type, const Device& device);
};

using Round = std::vector<std::unique_ptr<BatchUnderWay>>;

}  // namespace spectrace
