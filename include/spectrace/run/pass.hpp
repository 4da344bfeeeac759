#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "spectrace/measure/prompts.hpp"
#include "spectrace/measure/record.hpp"
#include "spectrace/measure/slicing.hpp"
#include "spectrace/plan/model_plan.hpp"
#include "spectrace/plan/open_model.hpp"

namespace spectrace {

/// What one rank needs to know to work on its units of one model.
struct PassOptions {
  ComputeType dtype = ComputeType::float32;
  Slicing slicing = Slicing::correct;
  PromptAnalyses prompt_analyses;
  /// Bytes that batches under way may take at once, hidden states and records; more prompts go in several passes. 0: no
  /// limit.
  std::int64_t hidden_bytes_limit = 0;
  /// What the rank may use in all: a batch that needs more fails, alone. 0: not asked.
  std::int64_t memory_bytes = 0;
};

/// A batch on its way: what goes to the journal so that a stop costs no more than the layer under work.
struct BatchState {
  std::int64_t next_layer = 0;
  Record record;  ///< of the measurement so far, and `hidden` [num_tokens, hidden_size]: what enters next_layer
};

struct PassEvents {
  /// A unit is done: its record, or why it failed. May throw; then the pass ends with that exception.
  std::function<void(std::size_t unit, Record record)> on_done;
  /// Work done since the last call, in the units' flops.
  std::function<void(double flops)> on_progress;
  /// Asked between layers and inside long units; true ends the pass, what is not done stays undone.
  std::function<bool()> stop_requested;
  /// Before a stop, and once a minute between layers: a batch that can be gone on with.
  std::function<void(std::size_t unit, BatchState state)> on_state;
  /// Where an earlier pass left the batch.
  std::function<std::optional<BatchState>(std::size_t unit)> find_state;
};

/// Does the given units (indices into plan.units) in one stream over the layers: each layer is read once, serves the
/// spectra and all prompts that are under way, and is freed. What is wrong with the checkpoint, or too large for the
/// memory, becomes the records of the units it touches, never an exception; the outcome of a unit does not depend on
/// which others it shares the pass with.
/// @return false if it was stopped.
bool run_pass(const OpenModel& model, const ModelPlan& plan, const std::vector<std::size_t>& units,
              const PassOptions& options, const PassEvents& events);

}  // namespace spectrace
