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
  Tensor hidden;       // [num_tokens, hidden_size]
  Tensor normed;       // the same after the final norm, when that has been reached
  BlockWrites writes;  // of the block that it went through last, if wanted
  std::int64_t next_layer = 0;
  std::map<std::string, std::vector<std::string>> texts;  // of the state that it came with
  std::optional<std::string> error;
  double final_flops, layer_flops;  // of the unit's: behind the last block, and in each

  bool runs_in(std::int64_t layer) const { return !error && next_layer == layer; }
  /// What enters block 0.
  void embed(const OpenModel& model, ComputeType type, const Device& device);
  /// After the last block: the final norm, what the prompts predict if that is wanted, and all that was measured.
  void normalize(const OpenModel& model);
  PredictionBatch to_predict() const { return {&tokens, normed, measurement.last_tokens()}; }
  Record finish();
  /// As a block takes it, with what its analyses want to see. @pre values outlive it.
  BlockBatch in_block(std::int64_t layer, const std::vector<ValueSpectrum>& values);
  /// When the block is done with it.
  void see_block(std::int64_t layer);
  /// Of what is measured in a layer.
  double flops_of_statistics(const ModelDescription& model, const ModelPlan& plan) const;
  /// For the journal, or the next stage.
  BatchState state() const;
  void go_on_from(const BatchState& state, ComputeType type, const Device& device);
};

using Round = std::vector<std::unique_ptr<BatchUnderWay>>;

}  // namespace spectrace
