#include "spectrace/work/pass.hpp"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <memory>
#include <optional>
#include <utility>

#include "spectrace/core/host_memory.hpp"
#include "spectrace/core/log.hpp"
#include "spectrace/core/parallel.hpp"
#include "spectrace/core/stage_times.hpp"
#include "spectrace/core/stopwatch.hpp"
#include "spectrace/measure/unembedding.hpp"
#include "spectrace/measure/weight_spectra.hpp"
#include "spectrace/model/forward.hpp"
#include "spectrace/plan/certain_need.hpp"
#include "spectrace/plan/cost.hpp"
#include "spectrace/plan/memory.hpp"
#include "spectrace/work/error_of.hpp"

namespace spectrace {
namespace {

constexpr double kStatePeriod_s = 60;

/// Leaves a unit in the middle because of a stop. No std::exception: nobody takes it for the unit's failure.
struct LeaveUnit {};

Record failed(std::string error) {
  Record record;
  record.error = std::move(error);
  return record;
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
  std::map<std::string, std::vector<std::string>> texts;  // of the state that it came with
  std::optional<std::string> error;

  BatchState state() const {
    BatchState state{next_layer, measurement.so_far()};
    for (const auto& [name, text] : texts) state.record.texts[name] = text;
    const Tensor numbers = Device::to_host(hidden).to(at::kDouble).contiguous();
    const auto* first = numbers.const_data_ptr<double>();
    state.record.arrays["hidden"] = {numbers.sizes().vec(), {first, first + numbers.numel()}};
    return state;
  }
  void go_on_from(const BatchState& state, ComputeType type, const Device& device) {
    measurement.go_on_from(state.record);
    const Array& numbers = state.record.arrays.at("hidden");
    const Tensor here = at::empty(numbers.shape, scalar_type(type));
    here.copy_(at::from_blob(const_cast<double*>(numbers.values.data()), numbers.shape, at::kDouble));
    hidden = device.bring(here);
    next_layer = state.next_layer;
    texts = state.record.texts;
    texts.erase("prompt_errors");  // the measurement has them
  }
};

using Round = std::vector<std::unique_ptr<BatchUnderWay>>;

class Pass {
 public:
  Pass(LayerStream& stream, const ModelPlan& plan, const PassOptions& options, const PassEvents& events)
      : stream_(stream),
        model_(stream.model()),
        description_(model_.description),
        plan_(plan),
        options_(options),
        events_(events),
        need_(description_, plan, stream.type()) {}

  bool run(const std::vector<std::size_t>& units) {
    int num_parts = 0;
    for (const std::size_t unit : units) {
      const Unit& one = plan_.units[unit];
      // Parts of the unembedding go round from the first stage on, which is done before the others.
      if (one.kind == UnitKind::prompts)
        waiting_.push_back(unit);
      else if (one.kind == UnitKind::unembedding && num_parts++ % options_.num_stages == options_.stage)
        unembedding_units_.push_back(unit);
      else if (one.layer >= options_.layers.first && one.layer < options_.layers.last)
        layer_units_.push_back(unit);
    }
    has_batches_ = !waiting_.empty();
    batches_a_round_ =
        is_alone() ? static_cast<std::int64_t>(waiting_.size())
                   : batches_a_round(batch_totals(plan_.units, waiting_), options_.num_stages, options_.layers_stay);
    if (go()) return true;
    keep_waiting();
    return false;
  }

 private:
  bool is_alone() const { return options_.num_stages == 1; }
  bool is_first() const { return options_.stage == 0; }
  bool is_last() const { return options_.stage + 1 == options_.num_stages; }

  bool go() {
    // A group's pipeline begins when every rank has its spectra: a batch is not to wait for them in each stage.
    // Where the unembedding is the embedding, rows for the batches come from its reading.
    const bool is_tied = description_.embedding.unembedding.tensor == description_.embedding.token.tensor;
    if (is_alone() && is_tied && !do_unembeddings()) return false;
    Round round;
    if (is_alone()) round = next_round();
    if (!pass_layers(round) || !leave(round)) return false;
    for (round = next_round(); !round.empty(); round = next_round())
      if (!pass_layers(round) || !leave(round)) return false;
    return do_unembeddings();
  }

  bool do_unembeddings() {
    for (const std::size_t unit : unembedding_units_) {
      if (events_.stop_requested()) return false;
      if (auto lack = too_large(unit))
        report(unit, failed(*lack), plan_.units[unit].flops);
      else
        do_unembedding(unit);
    }
    unembedding_units_.clear();
    return !events_.stop_requested();
  }

  /// Batches that go through the rank's layers together: none when there are no more, or at a stop.
  Round next_round() {
    Round round;
    std::int64_t bytes = 0;
    const auto is_full = [&](std::size_t unit) {
      const std::int64_t more = bytes_under_way(description_, plan_, plan_.units[unit], stream_.type(),
                                                static_cast<std::int64_t>(options_.prompt_analyses.beta.size()),
                                                options_.prompt_analyses.graph_eigenvalues);
      const bool full = !round.empty() && options_.hidden_bytes_limit > 0 && bytes + more > options_.hidden_bytes_limit;
      if (!full) bytes += more;
      return full;
    };
    if (is_first()) {
      while (num_begun_ < waiting_.size() && std::cmp_less(round.size(), batches_a_round_) &&
             !is_full(waiting_[num_begun_]))
        round.push_back(start(waiting_[num_begun_++]));
      return round;
    }
    while (std::cmp_less(round.size(), batches_a_round_)) {
      if (!arrival_) {
        const StageTimer timer(Stage::exchange);
        arrival_ = events_.receive(/*wait=*/round.empty() || !options_.layers_stay);
      }
      if (!arrival_ || is_full(arrival_->unit)) break;
      round.push_back(std::make_unique<BatchUnderWay>(model_, batch_of(plan_, plan_.units[arrival_->unit]),
                                                      arrival_->unit, options_.prompt_analyses));
      round.back()->go_on_from(arrival_->state, stream_.type(), stream_.device());
      arrival_.reset();
      ++num_begun_;
    }
    return round;
  }

  /// All batches of the round through the rank's layers, and the spectra that are still to be done.
  bool pass_layers(Round& round) {
    for (std::int64_t layer = options_.layers.first; layer < options_.layers.last; ++layer) {
      const bool stop = events_.stop_requested();
      if (stop || since_state_.elapsed_s() > kStatePeriod_s) {
        const StageTimer timer(Stage::writing);
        for (const auto& batch : round)
          if (!batch->error && batch->next_layer == layer && layer > 0) events_.on_state(batch->unit, batch->state());
        since_state_.restart();
      }
      if (stop) return false;
      do_layer(layer, take_spectra(layer), round);
    }
    return true;
  }

  /// Units of spectra that are taken with a layer: if it has any left, those of all layers in flight.
  std::vector<std::size_t> take_spectra(std::int64_t layer) {
    std::vector<std::size_t> here, later;
    const auto layer_of = [&](std::size_t unit) { return plan_.units[unit].layer; };
    const bool has_any = std::any_of(layer_units_.begin(), layer_units_.end(),
                                     [&](std::size_t unit) { return layer_of(unit) == layer; });
    for (const std::size_t unit : layer_units_) {
      const bool is_taken = has_any && layer_of(unit) >= layer && layer_of(unit) < layer + options_.layers_in_flight;
      if (!is_taken)
        later.push_back(unit);
      else if (auto lack = too_large(unit))
        report(unit, failed(*lack), plan_.units[unit].flops);
      else
        here.push_back(unit);
    }
    layer_units_ = std::move(later);
    return here;
  }

  /// To the next stage, or as records to the journal.
  bool leave(Round& round) {
    for (auto& batch : round) {
      bool is_sent = false;
      // Sending signs what the batch was made of, which may have to be read for that, and may be there no more.
      if (!is_last() && !batch->error)
        batch->error = error_of("the way to the next stage", [&] { is_sent = send(*batch); });
      if (is_last() || batch->error) {
        finish(*batch);
      } else if (!is_sent) {
        // What has come so far, of this batch and the next ones.
        for (auto& one : round)
          if (one && !one->error) events_.on_state(one->unit, one->state());
        return false;
      }
      batch.reset();
    }
    return true;
  }

  bool send(const BatchUnderWay& batch) {
    const StageTimer timer(Stage::exchange);
    return events_.send(batch.unit, batch.state());
  }

  /// At a stop: what the stage before has sent and nobody has begun.
  void keep_waiting() {
    if (is_first()) return;
    for (auto arrival = arrival_ ? std::move(arrival_) : events_.receive(false); arrival;
         arrival = events_.receive(false))
      events_.on_state(arrival->unit, std::move(arrival->state));
  }

  void do_unembedding(std::size_t unit) {
    if (auto record = measure_rows(unit, /*tells_progress=*/true)) report(unit, std::move(*record), 0);
    leave_no_gaps(plan_.units[unit].flops);
  }

  /// Of the unembedding, as a record or its error; nothing if a stop came between. The thread beside tells no progress.
  std::optional<Record> measure_rows(std::size_t index, bool tells_progress) const {
    const StageTimer timer(Stage::unembedding);
    const Unit& unit = plan_.units[index];
    Record record;
    try {
      const auto error = error_of("the unembedding", [&] {
        record = measure_unembedding(description_, model_.store, options_.slicing, unit.rows, [&](double share) {
          if (tells_progress) progress(share * unit.flops);
          if (events_.stop_requested()) throw LeaveUnit{};
        });
        const TensorInfo& tensor = *model_.store.find(description_.embedding.unembedding.tensor);
        count_bytes(Stage::unembedding, tensor.size_bytes / static_cast<std::uint64_t>(tensor.shape[0]) *
                                            static_cast<std::uint64_t>(unit.rows.count));
        count_flops(Stage::unembedding, unit.flops);
      });
      return error ? failed(*error) : std::move(record);
    } catch (const LeaveUnit&) {
      return std::nullopt;
    }
  }

  std::unique_ptr<BatchUnderWay> start(std::size_t unit) {
    const StageTimer timer(Stage::embedding);
    auto batch =
        std::make_unique<BatchUnderWay>(model_, batch_of(plan_, plan_.units[unit]), unit, options_.prompt_analyses);
    batch->error = too_large(unit);
    if (batch->error) return batch;
    if (const auto state = events_.find_state(unit)) {
      batch->go_on_from(*state, stream_.type(), stream_.device());
      return batch;
    }
    batch->error = error_of("the embedding", [&] {
      Embedded embedded = embed(description_, model_.store, batch->batch, stream_.type(), stream_.device());
      batch->hidden = std::move(embedded.hidden);
      for (std::size_t prompt = 0; prompt < embedded.prompt_errors.size(); ++prompt)
        batch->measurement.fail(static_cast<std::int64_t>(prompt), embedded.prompt_errors[prompt]);
      batch->measurement.see_boundary(0, batch->hidden);
    });
    return batch;
  }

  /// Why a unit cannot be done in the memory that there is. Asked before: the system would rather kill the whole rank.
  std::optional<std::string> too_large(std::size_t unit) const {
    if (options_.memory_bytes <= 0) return std::nullopt;
    return need_.find_lack(plan_.units[unit], options_.memory_bytes);
  }

  void do_layer(std::int64_t layer, std::vector<std::size_t> layer_units, Round& round) {
    const Stopwatch watch;
    const auto runs_here = [&](const auto& batch) { return !batch->error && batch->next_layer == layer; };
    const bool any_batch = std::any_of(round.begin(), round.end(), runs_here);
    // Batches that were to come have failed, perhaps, since it was loaded with others.
    if (!any_batch && layer_units.empty()) return stream_.release(layer);

    const LoadedLayer& loaded = stream_.load(layer, needs_of(layer_units, layer, any_batch));
    const auto layer_of = load_in_flight(layer, loaded, layer_units, any_batch);
    if (any_batch) read_ahead(layer);
    // Spectra are the host's: beside the forward pass where a device leaves it free, else before it.
    std::vector<Record> spectra(layer_units.size());
    std::atomic<std::size_t> num_measured = 0;
    std::size_t num_reported = 0;
    const auto measure = [&](std::size_t i) {
      const StageTimer timer(stage_of(layer_units[i]));
      spectra[i] = measure_layer_unit(layer_units[i], *layer_of[i]);
      return spectra[i].error.empty();
    };
    // What threads find nothing to do for in one, they find in another.
    const auto measure_at_once = [&] {
      const StageTimer timer(Stage::matrices);
      parallel_for(static_cast<std::int64_t>(layer_units.size()), [&](std::int64_t task) {
        const Stopwatch own;
        const auto i = static_cast<std::size_t>(task);
        spectra[i] = measure_layer_unit(layer_units[i], *layer_of[i]);
        if (stage_of(layer_units[i]) == Stage::heads) move_task_time(Stage::matrices, Stage::heads, own.elapsed_s());
      });
      // Perhaps of memory that is free now.
      for (std::size_t i = 0; i < layer_units.size(); ++i)
        if (!spectra[i].error.empty()) measure(i);
      num_measured = layer_units.size();
    };
    const auto report_measured = [&] {
      for (; num_reported < num_measured; ++num_reported) {
        const std::size_t unit = layer_units[num_reported];
        report(unit, std::move(spectra[num_reported]), plan_.units[unit].flops);
      }
    };
    const auto measure_rest = [&] {
      for (; num_measured < layer_units.size(); report_measured()) {
        measure(num_measured);
        ++num_measured;
      }
    };
    // One part of the unembedding a layer, which needs no layer.
    std::optional<Record> rows;
    const bool has_rows = !unembedding_units_.empty() && !too_large(unembedding_units_.front());
    // Whatever ends this, what it uses stays until it has ended.
    const std::unique_ptr<SideThread, void (*)(SideThread*)> ends(&beside_, [](SideThread* one) { one->settle(); });
    if (any_batch && stream_.device().leaves_host_free()) {
      // What fails is tried again when the forward pass is over: then it has the host's memory for itself.
      beside_.begin([&] {
        while (num_measured < layer_units.size() && measure(num_measured)) ++num_measured;
        if (has_rows && num_measured == layer_units.size())
          rows = measure_rows(unembedding_units_.front(), /*tells_progress=*/false);
      });
    } else {
      if (options_.layers_in_flight > 1) measure_at_once();
      report_measured();
      measure_rest();
    }
    for (auto& batch : round) {
      if (batch->error || batch->next_layer != layer) continue;
      if (loaded.weights_error) batch->error = loaded.weights_error;
      if (!batch->error && loaded.attention_error) batch->error = loaded.attention_error;
      if (!batch->error && loaded.values_error && batch->measurement.needs_value_spectra())
        batch->error = loaded.values_error;
    }
    for (std::size_t first = 0; first < round.size(); report_measured()) first = run_some(layer, loaded, round, first);
    beside_.wait();
    report_measured();
    measure_rest();
    if (rows && rows->error.empty()) {
      const std::size_t unit = unembedding_units_.front();
      report(unit, std::move(*rows), plan_.units[unit].flops);
      unembedding_units_.erase(unembedding_units_.begin());
    }
    stream_.release(layer);
    double spectra_flops = 0;
    for (const std::size_t unit : layer_units) {
      spectra_flops += plan_.units[unit].flops;
      if (!any_batch) stream_.release(plan_.units[unit].layer);  // no batch comes for it
    }
    leave_no_gaps(spectra_flops);
    log_debug("layer {} of {}: {:.2f} s", layer, model_.folder.string(), watch.elapsed_s());
  }

  /// Loads the other layers of the units; returns the layer of each. One that cannot be read, for want of memory
  /// perhaps, is left to its turn: its units go back.
  std::vector<const LoadedLayer*> load_in_flight(std::int64_t layer, const LoadedLayer& loaded,
                                                 std::vector<std::size_t>& units, bool any_batch) {
    std::map<std::int64_t, const LoadedLayer*> layers{{layer, &loaded}};
    for (const std::size_t unit : units) {
      const auto [place, is_new] = layers.try_emplace(plan_.units[unit].layer);
      if (!is_new) continue;
      const LoadedLayer& other = stream_.load(place->first, needs_of(units, place->first, any_batch));
      if (other.is_good())
        place->second = &other;
      else
        stream_.release(place->first);
    }
    const auto layer_of = [&](std::size_t unit) { return layers.at(plan_.units[unit].layer); };
    std::vector<const LoadedLayer*> of_units;
    std::vector<std::size_t> kept;
    for (const std::size_t unit : units) {
      (layer_of(unit) == nullptr ? layer_units_ : kept).push_back(unit);
      if (layer_of(unit) != nullptr) of_units.push_back(layer_of(unit));
    }
    units = std::move(kept);
    return of_units;
  }

  /// After large spectra: what they leave in the heap between blocks that stay grew by some MiB a layer.
  static void leave_no_gaps(double flops) {
    constexpr double kWorthwhileFlops = 1e11;  // seconds of work; gaps are closed in milliseconds
    if (flops >= kWorthwhileFlops) return_freed_memory();
  }

  /// What units, some of this layer among them, and batches need of the layer.
  LayerNeeds needs_of(const std::vector<std::size_t>& units, std::int64_t layer, bool any_batch) const {
    LayerNeeds needs;
    // Of layers that stay, all is read when the spectra want the first of it.
    needs.weights = any_batch || (has_batches_ && options_.layers_stay);
    needs.values = any_batch && options_.prompt_analyses.sheaf;
    for (const std::size_t unit : units) {
      if (plan_.units[unit].layer != layer) continue;
      needs.attention = true;
      needs.values |= plan_.units[unit].kind == UnitKind::heads;
    }
    return needs;
  }

  Stage stage_of(std::size_t unit) const {
    return plan_.units[unit].kind == UnitKind::heads ? Stage::heads : Stage::matrices;
  }

  /// Of the layer that is read after this one, if it is known: the round's next one, or the first one of another round.
  void read_ahead(std::int64_t layer) {
    std::int64_t next = layer + 1;
    if (next == options_.layers.last) {
      if (num_begun_ == waiting_.size()) return;
      next = options_.layers.first;
    }
    std::vector<std::size_t> there;
    for (const std::size_t unit : layer_units_)
      if (plan_.units[unit].layer == next && !too_large(unit)) there.push_back(unit);
    stream_.read_ahead(next, needs_of(there, next, true));
  }

  Record measure_layer_unit(std::size_t unit, const LoadedLayer& loaded) const {
    const bool is_heads = plan_.units[unit].kind == UnitKind::heads;
    Record record;
    auto error = loaded.attention_error;
    if (!error && is_heads) error = loaded.values_error;
    if (!error)
      error = error_of("layer " + std::to_string(plan_.units[unit].layer), [&] {
        record = is_heads ? measure_heads(description_, loaded.sliced, options_.slicing, loaded.values)
                          : measure_matrices(loaded.sliced);
        count_flops(stage_of(unit), is_heads ? heads_flops(description_) - value_spectra_flops(description_)
                                             : matrices_flops(description_));
      });
    return error ? failed(*error) : std::move(record);
  }

  /// Runs the next batches from `first` on through the layer, as many as go together; returns the one after them.
  std::size_t run_some(std::int64_t layer, const LoadedLayer& loaded, Round& round, std::size_t first) {
    const auto stays_out = [&](const BatchUnderWay& batch) { return batch.error || batch.next_layer != layer; };
    std::vector<BatchUnderWay*> together;
    std::vector<BlockBatch> in_block;
    std::int64_t num_tokens = 0;
    std::size_t next = first;
    for (; next < round.size(); ++next) {
      BatchUnderWay& batch = *round[next];
      if (!stays_out(batch)) {
        if (!together.empty() && num_tokens + batch.batch.num_tokens() > tokens_together(stream_.device())) break;
        num_tokens += batch.batch.num_tokens();
        together.push_back(&batch);
        in_block.push_back({&batch.batch, batch.hidden, observer(layer, loaded.values, batch), nullptr});
      } else if (batch.error) {
        progress(layer_flops(batch));
      }
    }
    if (together.empty()) return next;
    const StageTimer timer(Stage::forward);
    const std::string here = "layer " + std::to_string(layer);
    auto error = error_of(here, [&] { run_block(description_, layer, *loaded.weights, in_block); });
    for (std::size_t i = 0; i < together.size(); ++i) {
      BatchUnderWay& batch = *together[i];
      batch.error = error ? error : error_of(here, [&] {
        if (in_block[i].error) std::rethrow_exception(in_block[i].error);
        batch.measurement.see_boundary(layer + 1, batch.hidden);
        batch.next_layer = layer + 1;
        double in_statistics = 0;
        for (const std::size_t prompt : plan_.units[batch.unit].prompts)
          in_statistics += sheaf_flops(
              description_,
              static_cast<std::int64_t>(plan_.sets[plan_.units[batch.unit].set].prompts[prompt].token_ids.size()));
        count_flops(Stage::forward, layer_flops(batch) - in_statistics);
        if (batch.measurement.needs_value_spectra()) count_flops(Stage::statistics, in_statistics);
      });
      progress(layer_flops(batch));
    }
    return next;
  }

  double layer_flops(const BatchUnderWay& batch) const {
    return plan_.units[batch.unit].flops / static_cast<double>(description_.num_layers);
  }

  static AttentionObserver observer(std::int64_t layer, const std::vector<ValueSpectrum>& values,
                                    BatchUnderWay& batch) {
    if (!batch.measurement.needs_attention()) return {};
    return [&batch, &values, layer](std::int64_t prompt, std::int64_t first_head, const Tensor& a) {
      const Stopwatch watch;
      batch.measurement.see_attention(layer, prompt, first_head, a, values);
      move_task_time(Stage::forward, Stage::statistics, watch.elapsed_s());
    };
  }

  void finish(BatchUnderWay& batch) {
    const StageTimer timer(Stage::embedding);
    Record record;
    if (!batch.error)
      batch.error = error_of("the final norm", [&] {
        batch.measurement.see_final_norm(apply_final_norm(description_, model_.store, batch.hidden));
        record = batch.measurement.finish();
        record.texts.merge(batch.texts);
      });
    batch.hidden = Tensor();
    report(batch.unit, batch.error ? failed(*batch.error) : std::move(record), 0);
  }

  void report(std::size_t unit, Record record, double flops) {
    const StageTimer timer(Stage::writing);
    if (!record.error.empty()) log_error("{}: {}", plan_.units[unit].key, record.error);
    events_.on_done(unit, std::move(record));
    progress(flops);
  }

  void progress(double flops) const {
    if (flops > 0) events_.on_progress(flops);
  }

  LayerStream& stream_;
  const OpenModel& model_;
  const ModelDescription& description_;
  const ModelPlan& plan_;
  const PassOptions& options_;
  const PassEvents& events_;
  CertainNeed need_;
  std::vector<std::size_t> layer_units_, unembedding_units_;
  std::vector<std::size_t> waiting_;            // all batches, in the order in which the first stage begins them
  std::size_t num_begun_ = 0;                   // of these, by this stage
  std::optional<PassEvents::Arrival> arrival_;  // did not fit into the round before
  bool has_batches_ = false;
  std::int64_t batches_a_round_ = 1;
  Stopwatch since_state_;
  SideThread beside_;  // takes spectra while a device runs the forward pass
};

}  // namespace

bool run_pass(LayerStream& stream, const ModelPlan& plan, const std::vector<std::size_t>& units,
              const PassOptions& options, const PassEvents& events) {
  return Pass(stream, plan, options, events).run(units);
}

}  // namespace spectrace
