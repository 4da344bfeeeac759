#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "spectrace/measure/record.hpp"
#include "spectrace/measure/slicing.hpp"
#include "spectrace/plan/model_load.hpp"
#include "spectrace/plan/model_plan.hpp"
#include "spectrace/work/layer_stream.hpp"

namespace spectrace {

/// What one rank needs to know to work on its units of one model.
struct PassOptions {
  Slicing slicing = Slicing::correct;
  /// Bytes that batches under way may take at once, hidden states and records; more prompts go in several rounds. 0: no
  /// limit.
  std::int64_t hidden_bytes_limit = 0;
  /// What the rank may use in all: a batch that needs more fails, alone. 0: not asked.
  std::int64_t memory_bytes = 0;
  /// The rank's part of the layers: stage `stage` of `num_stages`.
  int stage = 0, num_stages = 1;
  LayerRange layers;
  /// The layers stay in memory: batches need not be gathered.
  bool layers_stay = false;
  /// Whose spectra are taken side by side (plan/memory).
  std::int64_t layers_in_flight = 1;
  /// What stored matrices may take whose spectra are taken side by side (plan/memory); one of them goes anyway.
  std::int64_t tensors_in_flight_bytes = 0;
};

/// A batch on its way: what goes to the journal so that a stop costs no more than the layer under work.
struct BatchState {
  std::int64_t next_layer = 0;
  /// Of the measurement so far, and `hidden` [num_tokens, hidden_size]: what enters next_layer. Its texts are whatever
  /// the one who took the state in put there, as long as the batch is under way.
  Record record;
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
  /// To the next stage: a batch. Of every stage but the last. False if a stop came first.
  std::function<bool(std::size_t unit, BatchState state)> send;
  /// From the stage before: the next batch, `wait`ing for it; nothing if there is none (yet), or a stop came first.
  /// Of every stage but the first.
  struct Arrival {
    std::size_t unit;
    BatchState state;
  };
  std::function<std::optional<Arrival>(bool wait)> receive;
};

/// Does the given units (indices into plan.units), those of other stages' layers aside: each layer is read once a
/// round, serves the spectra and all batches of the round, and is given back to the stream. What is wrong with the
/// checkpoint, or too large for the memory, becomes the records of the units it touches, never an exception; the
/// outcome of a unit does not depend on which others it shares the pass with.
/// @return false if it was stopped.
bool run_pass(LayerStream& stream, const ModelPlan& plan, const std::vector<std::size_t>& units,
              const PassOptions& options, const PassEvents& events);

}  // namespace spectrace
