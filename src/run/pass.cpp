#include "spectrace/run/pass.hpp"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <new>
#include <optional>

#include "spectrace/core/log.hpp"
#include "spectrace/core/stopwatch.hpp"
#include "spectrace/measure/unembedding.hpp"
#include "spectrace/measure/weight_spectra.hpp"
#include "spectrace/model/forward.hpp"
#include "spectrace/numerics/numerical_error.hpp"
#include "spectrace/plan/memory.hpp"

namespace spectrace {
namespace {

constexpr double kStatePeriod_s = 60;

/// Leaves a unit in the middle because of a stop. No std::exception: nobody takes it for the unit's failure.
struct LeaveUnit {};

/// What a unit's work may fail of without ending the run: the checkpoint's fault, a solver's on the matrices that
/// `what` names, memory. Returns the error's text, or nothing if all went well.
template <typename F>
std::optional<std::string> error_of(const std::string& what, F&& f) {
  try {
    f();
    return std::nullopt;
  } catch (const InputError& error) {
    return error.what();
  } catch (const NumericalError& error) {
    return what + ": " + error.what();
  } catch (const std::bad_alloc&) {
    return what + ": does not fit into memory";
  } catch (const std::exception& error) {
    // libtorch's own: a first line that says it, then where in libtorch.
    const std::string text = error.what();
    return what + ": " + text.substr(0, text.find('\n'));
  }
}

Record failed(std::string error) {
  Record record;
  record.error = std::move(error);
  return record;
}

TokenBatch make_batch(const ModelPlan& plan, const Unit& unit) {
  TokenBatch batch;
  batch.row_start.push_back(0);
  for (const std::size_t prompt : unit.prompts) {
    const auto& ids = plan.sets[unit.set].prompts[prompt].token_ids;
    batch.token_ids.insert(batch.token_ids.end(), ids.begin(), ids.end());
    batch.row_start.push_back(batch.num_tokens());
  }
  return batch;
}

/// A batch of prompts on its way through the layers.
struct BatchUnderWay {
  BatchUnderWay(const OpenModel& model, TokenBatch tokens, std::size_t unit_index, const PromptAnalyses& analyses)
      : unit(unit_index), batch(std::move(tokens)), measurement(model.description, batch, analyses) {}
  BatchUnderWay(const BatchUnderWay&) = delete;
  BatchUnderWay& operator=(const BatchUnderWay&) = delete;

  std::size_t unit;
  TokenBatch batch;  // before the measurement, which refers to it
  PromptMeasurement measurement;
  Tensor hidden;  // [num_tokens, hidden_size]
  std::int64_t next_layer = 0;
  std::optional<std::string> error;

  BatchState state() const {
    BatchState state{next_layer, measurement.so_far()};
    const Tensor numbers = hidden.to(at::kDouble).contiguous();
    const auto* first = numbers.const_data_ptr<double>();
    state.record.arrays["hidden"] = {numbers.sizes().vec(), {first, first + numbers.numel()}};
    return state;
  }
  void go_on_from(const BatchState& state, ComputeType type) {
    measurement.go_on_from(state.record);
    const Array& numbers = state.record.arrays.at("hidden");
    hidden = at::empty(numbers.shape, type == ComputeType::float64 ? at::kDouble : at::kFloat);
    hidden.copy_(at::from_blob(const_cast<double*>(numbers.values.data()), numbers.shape, at::kDouble));
    next_layer = state.next_layer;
  }
};

class Pass {
 public:
  Pass(const OpenModel& model, const ModelPlan& plan, const PassOptions& options, const PassEvents& events)
      : model_(model), description_(model.description), plan_(plan), options_(options), events_(events) {}

  /// One stream over the layers for the given layer units and batches.
  bool stream(const std::vector<std::size_t>& layer_units, const std::vector<std::size_t>& prompt_units) {
    std::vector<std::unique_ptr<BatchUnderWay>> batches;
    for (const std::size_t unit : prompt_units) batches.push_back(start(unit));
    Stopwatch since_state;
    for (std::int64_t layer = 0; layer < description_.num_layers; ++layer) {
      const bool stop = events_.stop_requested();
      if (stop || since_state.elapsed_s() > kStatePeriod_s) {
        for (const auto& batch : batches)
          if (!batch->error && batch->next_layer == layer && layer > 0) events_.on_state(batch->unit, batch->state());
        since_state.restart();
      }
      if (stop) return false;
      std::vector<std::size_t> here;
      for (const std::size_t unit : layer_units)
        if (plan_.units[unit].layer == layer) here.push_back(unit);
      do_layer(layer, here, batches);
    }
    for (auto& batch : batches) finish(*batch);
    return true;
  }

  void do_unembedding(std::size_t unit) {
    Record record;
    try {
      const auto error = error_of("the unembedding", [&] {
        record = measure_unembedding(description_, model_.store, [&](double share) {
          progress(share * plan_.units[unit].flops);
          if (events_.stop_requested()) throw LeaveUnit{};
        });
      });
      report(unit, error ? failed(*error) : std::move(record), 0);
    } catch (const LeaveUnit&) {
    }
  }

 private:
  std::unique_ptr<BatchUnderWay> start(std::size_t unit) {
    auto batch =
        std::make_unique<BatchUnderWay>(model_, make_batch(plan_, plan_.units[unit]), unit, options_.prompt_analyses);
    batch->error = too_large(plan_.units[unit]);
    if (batch->error) return batch;
    if (const auto state = events_.find_state(unit)) {
      batch->go_on_from(*state, options_.dtype);
      return batch;
    }
    batch->error = error_of("the embedding", [&] {
      batch->hidden = embed(description_, model_.store, batch->batch, options_.dtype);
      batch->measurement.see_boundary(0, batch->hidden);
    });
    return batch;
  }

  /// Why a batch cannot run in the memory that there is. Asked before: the system would rather kill the whole rank.
  std::optional<std::string> too_large(const Unit& unit) const {
    if (options_.memory_bytes <= 0) return std::nullopt;
    std::size_t longest = 0;
    for (const std::size_t prompt : unit.prompts)
      longest = std::max(longest, plan_.sets[unit.set].prompts[prompt].token_ids.size());
    const std::int64_t bytes =
        block_workspace_bytes(description_, unit.num_tokens, static_cast<std::int64_t>(longest), options_.dtype);
    if (bytes <= options_.memory_bytes) return std::nullopt;
    return fmt::format(
        "a prompt of {} tokens needs about {:.1f} GiB for the attention of one layer, more than the {:.1f} GiB that a "
        "rank may use here",
        longest, static_cast<double>(bytes) / (1 << 30), static_cast<double>(options_.memory_bytes) / (1 << 30));
  }

  void do_layer(std::int64_t layer, const std::vector<std::size_t>& layer_units,
                std::vector<std::unique_ptr<BatchUnderWay>>& batches) {
    const Stopwatch watch;
    const auto runs_here = [&](const auto& batch) { return !batch->error && batch->next_layer == layer; };
    const bool any_batch = std::any_of(batches.begin(), batches.end(), runs_here);
    if (!any_batch && layer_units.empty()) return;

    const std::string here = "layer " + std::to_string(layer);
    // A unit of the attention matrices must fail of these matrices only, whatever else the layer is read for.
    std::optional<LayerWeights> weights;
    AttentionWeights attention;
    std::optional<std::string> layer_error, attention_error;
    if (any_batch)
      layer_error = error_of(here, [&] { weights = read_layer(description_, model_.store, layer, options_.dtype); });
    // Spectra are of what is stored, whatever type the forward pass has.
    const bool stored_wider = options_.dtype == ComputeType::float32 && stores_float64(layer);
    if (weights && !stored_wider) {
      attention = attention_weights(*weights);
    } else if (weights || !layer_units.empty()) {
      const ComputeType type = stored_wider ? ComputeType::float64 : options_.dtype;
      attention_error =
          error_of(here, [&] { attention = read_attention_weights(description_, model_.store, layer, type); });
    }

    SlicedWeights sliced;
    std::vector<ValueSpectrum> values;
    std::optional<std::string> values_error;
    if ((weights || !layer_units.empty()) && !attention_error) {
      sliced = slice_weights(description_, attention, options_.slicing);
      if (needs_values(layer_units, batches))
        values_error = error_of(here + ", W_V of a head", [&] { values = value_spectra(sliced); });
    }
    for (const std::size_t unit : layer_units) do_layer_unit(unit, sliced, values, attention_error, values_error);
    for (auto& batch : batches) {
      if (!batch->error && batch->next_layer != layer) continue;
      if (!batch->error && layer_error) batch->error = layer_error;
      if (!batch->error && attention_error) batch->error = attention_error;
      if (!batch->error && values_error && batch->measurement.needs_value_spectra()) batch->error = values_error;
      if (!batch->error) batch->error = error_of(here, [&] { run_batch(layer, *weights, values, *batch); });
      progress(plan_.units[batch->unit].flops / static_cast<double>(description_.num_layers));
    }
    log_debug("layer {} of {}: {:.2f} s", layer, model_.folder.string(), watch.elapsed_s());
  }

  /// Whether one of the layer's attention matrices is stored in more than float32 holds.
  bool stores_float64(std::int64_t layer) const {
    const LayerSources& sources = description_.layers[static_cast<std::size_t>(layer)];
    const auto is_wide = [&](const LinearSource& source) {
      const TensorInfo* info = model_.store.find(source.weight.tensor);
      return info != nullptr && info->type == StorageType::float64;
    };
    return is_wide(sources.w_q) || is_wide(sources.w_k) || is_wide(sources.w_v) || is_wide(sources.w_o);
  }

  bool needs_values(const std::vector<std::size_t>& layer_units,
                    const std::vector<std::unique_ptr<BatchUnderWay>>& batches) const {
    return std::any_of(layer_units.begin(), layer_units.end(),
                       [&](std::size_t unit) { return plan_.units[unit].kind == UnitKind::heads; }) ||
           std::any_of(batches.begin(), batches.end(),
                       [](const auto& batch) { return !batch->error && batch->measurement.needs_value_spectra(); });
  }

  void do_layer_unit(std::size_t unit, const SlicedWeights& sliced, const std::vector<ValueSpectrum>& values,
                     const std::optional<std::string>& attention_error,
                     const std::optional<std::string>& values_error) {
    const bool is_heads = plan_.units[unit].kind == UnitKind::heads;
    Record record;
    auto error = attention_error;
    if (!error && is_heads) error = values_error;
    if (!error)
      error = error_of("layer " + std::to_string(plan_.units[unit].layer), [&] {
        record = is_heads ? measure_heads(description_, sliced, options_.slicing, values) : measure_matrices(sliced);
      });
    report(unit, error ? failed(*error) : std::move(record), plan_.units[unit].flops);
  }

  void run_batch(std::int64_t layer, const LayerWeights& weights, const std::vector<ValueSpectrum>& values,
                 BatchUnderWay& batch) {
    AttentionObserver observe;
    if (batch.measurement.needs_attention())
      observe = [&](std::int64_t prompt, const Tensor& a) {
        batch.measurement.see_attention(layer, prompt, a, values);
      };
    run_block(description_, layer, weights, batch.batch, batch.hidden, observe);
    batch.measurement.see_boundary(layer + 1, batch.hidden);
    batch.next_layer = layer + 1;
  }

  void finish(BatchUnderWay& batch) {
    Record record;
    if (!batch.error)
      batch.error = error_of("the final norm", [&] {
        batch.measurement.see_final_norm(apply_final_norm(description_, model_.store, batch.hidden));
        record = batch.measurement.finish();
      });
    batch.hidden = Tensor();
    report(batch.unit, batch.error ? failed(*batch.error) : std::move(record), 0);
  }

  void report(std::size_t unit, Record record, double flops) {
    if (!record.error.empty()) log_error("{}: {}", plan_.units[unit].key, record.error);
    events_.on_done(unit, std::move(record));
    progress(flops);
  }

  void progress(double flops) {
    if (flops > 0) events_.on_progress(flops);
  }

  const OpenModel& model_;
  const ModelDescription& description_;
  const ModelPlan& plan_;
  const PassOptions& options_;
  const PassEvents& events_;
};

/// Cuts the batches into streams whose hidden states fit, in their order.
std::vector<std::vector<std::size_t>> cut_into_streams(const OpenModel& model, const ModelPlan& plan,
                                                       const std::vector<std::size_t>& prompt_units,
                                                       const PassOptions& options) {
  std::vector<std::vector<std::size_t>> streams(1);
  std::int64_t used = 0;
  for (const std::size_t unit : prompt_units) {
    const std::int64_t bytes = bytes_under_way(model.description, plan, plan.units[unit], options.dtype,
                                               static_cast<std::int64_t>(options.prompt_analyses.beta.size()),
                                               options.prompt_analyses.graph_eigenvalues);
    if (options.hidden_bytes_limit > 0 && !streams.back().empty() && used + bytes > options.hidden_bytes_limit) {
      streams.emplace_back();
      used = 0;
    }
    streams.back().push_back(unit);
    used += bytes;
  }
  return streams;
}

}  // namespace

bool run_pass(const OpenModel& model, const ModelPlan& plan, const std::vector<std::size_t>& units,
              const PassOptions& options, const PassEvents& events) {
  std::vector<std::size_t> layer_units, prompt_units, unembedding_units;
  for (const std::size_t unit : units) {
    const UnitKind kind = plan.units[unit].kind;
    (kind == UnitKind::prompts       ? prompt_units
     : kind == UnitKind::unembedding ? unembedding_units
                                     : layer_units)
        .push_back(unit);
  }
  Pass pass(model, plan, options, events);
  for (const auto& stream : cut_into_streams(model, plan, prompt_units, options)) {
    if (!pass.stream(layer_units, stream)) return false;
    layer_units.clear();
  }
  for (const std::size_t unit : unembedding_units) {
    if (events.stop_requested()) return false;
    pass.do_unembedding(unit);
  }
  return !events.stop_requested();
}

}  // namespace spectrace
