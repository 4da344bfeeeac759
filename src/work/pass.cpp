#include "spectrace/work/pass.hpp"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <utility>

#include "batch_under_way.hpp"
#include "layer_spectra.hpp"
#include "round_end.hpp"
#include "rounds.hpp"
#include "spectrace/core/host_memory.hpp"
#include "spectrace/core/log.hpp"
#include "spectrace/core/parallel.hpp"
#include "spectrace/core/stage_times.hpp"
#include "spectrace/core/stopwatch.hpp"
#include "spectrace/model/forward.hpp"
#include "spectrace/plan/certain_need.hpp"
#include "spectrace/plan/memory.hpp"
#include "spectrace/work/error_of.hpp"
#include "tensor_spectra.hpp"

namespace spectrace {
namespace {

constexpr double kStatePeriod_s = 60;

class Pass {
 public:
  Pass(LayerStream& stream, const ModelPlan& plan, const PassOptions& options, const PassEvents& events)
      : stream_(stream),
        model_(stream.model()),
        description_(model_.description),
        plan_(plan),
        options_(options),
        events_(events),
        need_(description_, plan, stream.type()),
        wants_values_(plan.wants().value_spectra) {}

  bool run(const std::vector<std::size_t>& units) {
    int num_parts = 0;
    std::vector<std::size_t> batches;
    for (const std::size_t unit : units) {
      if (plan_.units[unit].of_batch() != nullptr) {
        batches.push_back(unit);
      } else if (const LayerWork* work = plan_.units[unit].of_layer()) {
        if (work->layer >= options_.layers.first && work->layer < options_.layers.last) layer_units_.push_back(unit);
      } else if (num_parts++ % options_.num_stages != options_.stage) {
        continue;  // what lies in no layer goes round from the first stage on, which is done before the others
      } else if (plan_.units[unit].of_tensor() != nullptr) {
        tensor_units_.push_back(unit);
      } else {
        rows_units_.push_back(unit);
      }
    }
    has_batches_ = !batches.empty();
    rounds_.emplace(stream_, plan_, options_, events_, std::move(batches));
    if (go()) return true;
    rounds_->keep_waiting();
    return false;
  }

 private:
  bool is_alone() const { return options_.num_stages == 1; }
  bool is_last() const { return options_.stage + 1 == options_.num_stages; }

  bool go() {
    // A group's pipeline begins when every rank has its spectra: a batch is not to wait for them in each stage.
    // Where the unembedding is the embedding, rows for the batches come from its reading.
    const bool is_tied = description_.embedding.unembedding.tensor == description_.embedding.token.tensor;
    if (is_alone() && is_tied && !do_rows()) return false;
    const auto next_round = [&] { return rounds_->next([this](std::size_t unit) { return start(unit); }); };
    Round round;
    if (is_alone()) round = next_round();
    if (!pass_layers(round) || !leave(round)) return false;
    for (round = next_round(); !round.empty(); round = next_round())
      if (!pass_layers(round) || !leave(round)) return false;
    return do_rows() && do_tensors();
  }

  bool do_tensors() {
    TensorSpectra spectra(model_, plan_, options_.tensors_in_flight_bytes,
                          {[&](std::size_t unit) { return find_refusal(unit); },
                           [&](std::size_t unit, Record record) { report(unit, std::move(record), 0); },
                           [&](double flops) { progress(flops); }, [&] { return events_.stop_requested(); }});
    return spectra.run(tensor_units_);
  }

  bool do_rows() {
    for (const std::size_t unit : rows_units_) {
      if (events_.stop_requested()) return false;
      if (auto lack = find_refusal(unit))
        report(unit, failed_record(*lack), plan_.units[unit].flops);
      else
        do_rows_of(unit);
    }
    rows_units_.clear();
    return !events_.stop_requested();
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
    const auto layer_of = [&](std::size_t unit) { return plan_.units[unit].of_layer()->layer; };
    const bool has_any = std::any_of(layer_units_.begin(), layer_units_.end(),
                                     [&](std::size_t unit) { return layer_of(unit) == layer; });
    for (const std::size_t unit : layer_units_) {
      const bool is_taken = has_any && layer_of(unit) >= layer && layer_of(unit) < layer + options_.layers_in_flight;
      if (!is_taken)
        later.push_back(unit);
      else if (auto lack = find_refusal(unit))
        report(unit, failed_record(*lack), plan_.units[unit].flops);
      else
        here.push_back(unit);
    }
    layer_units_ = std::move(later);
    return here;
  }

  /// To the next stage, or as records to the journal.
  bool leave(Round& round) {
    if (is_last() && !end_round(model_, round, events_)) return stop_with(round);
    for (auto& batch : round) {
      bool is_sent = false;
      // Sending signs what the batch was made of, which may have to be read for that, and may be there no more.
      if (!is_last() && !batch->error)
        batch->error = error_of("the way to the next stage", [&] { is_sent = send(*batch); });
      if (is_last() || batch->error)
        finish(*batch);
      else if (!is_sent)
        return stop_with(round);
      batch.reset();
    }
    return true;
  }

  /// Leaves in the journal what has come so far of the batches that have not left yet. Always false.
  bool stop_with(const Round& round) const {
    for (const auto& batch : round)
      if (batch && !batch->error) events_.on_state(batch->unit, batch->state());
    return false;
  }

  bool send(const BatchUnderWay& batch) {
    const StageTimer timer(Stage::exchange);
    return events_.send(batch.unit, batch.state());
  }

  void do_rows_of(std::size_t unit) {
    if (auto record = measure_rows(unit, /*tells_progress=*/true)) report(unit, std::move(*record), 0);
    leave_no_gaps(plan_.units[unit].flops);
  }

  /// Nothing if a stop came between. The thread beside tells no progress.
  std::optional<Record> measure_rows(std::size_t unit, bool tells_progress) const {
    return measure_rows_unit(model_, plan_.units[unit], options_.slicing, [&](double flops) {
      if (tells_progress) progress(flops);
      return !events_.stop_requested();
    });
  }

  std::unique_ptr<BatchUnderWay> start(std::size_t unit) {
    const StageTimer timer(Stage::embedding);
    auto batch = std::make_unique<BatchUnderWay>(model_, plan_, unit);
    batch->error = find_refusal(unit);
    if (batch->error) return batch;
    if (const auto state = events_.find_state(unit))
      batch->go_on_from(*state, stream_.type(), stream_.device());
    else
      batch->error = error_of("the embedding", [&] { batch->embed(model_, stream_.type(), stream_.device()); });
    return batch;
  }

  /// Why a unit cannot be done. Asked before: for want of memory the system would kill the whole rank.
  std::optional<std::string> find_refusal(std::size_t unit) const {
    if (auto problem = find_problem(model_, plan_.units[unit])) return problem;
    return options_.memory_bytes <= 0 ? std::nullopt : need_.find_lack(plan_.units[unit], options_.memory_bytes);
  }

  void do_layer(std::int64_t layer, std::vector<std::size_t> layer_units, Round& round) {
    const Stopwatch watch;
    const bool any_batch =
        std::any_of(round.begin(), round.end(), [&](const auto& batch) { return batch->runs_in(layer); });
    // Batches that were to come have failed, perhaps, since it was loaded with others.
    if (!any_batch && layer_units.empty()) {
      for (const auto& batch : round)
        if (batch->error) progress(batch->layer_flops);
      return stream_.release(layer);
    }
    const LoadedLayer& loaded = stream_.load(layer, needs_of(layer_units, layer, any_batch));
    LayerSpectra spectra(
        description_, plan_, options_.slicing, load_in_flight(layer, loaded, layer_units, any_batch),
        [&](std::size_t unit, Record record) { report(unit, std::move(record), plan_.units[unit].flops); });
    if (any_batch) read_ahead(layer);
    // Spectra are the host's: beside the forward pass where a device leaves it free, else before it.
    if (any_batch && stream_.device().leaves_host_free()) {
      run_beside(layer, loaded, spectra, round);
    } else {
      if (options_.layers_in_flight > 1) spectra.measure_at_once();
      spectra.measure_rest();
      run_round(layer, loaded, round, [] {});
    }
    stream_.release(layer);
    double spectra_flops = 0;
    for (const std::size_t unit : layer_units) {
      spectra_flops += plan_.units[unit].flops;
      if (!any_batch) stream_.release(plan_.units[unit].of_layer()->layer);  // no batch comes for it
    }
    leave_no_gaps(spectra_flops);
    log_debug("layer {} of {}: {:.2f} s", layer, model_.folder.string(), watch.elapsed_s());
  }

  /// The round on the device, and beside it, by the host, the layer's spectra and one part of the unembedding, which
  /// needs no layer.
  void run_beside(std::int64_t layer, const LoadedLayer& loaded, LayerSpectra& spectra, Round& round) {
    std::optional<Record> rows;
    const bool has_rows = !rows_units_.empty() && !find_refusal(rows_units_.front());
    // Whatever ends this, what the thread uses stays until it has ended.
    const std::unique_ptr<SideThread, void (*)(SideThread*)> ends(&beside_, [](SideThread* one) { one->settle(); });
    beside_.begin([&] {
      if (spectra.measure_beside() && has_rows) rows = measure_rows(rows_units_.front(), /*tells_progress=*/false);
    });
    run_round(layer, loaded, round, [&] { spectra.report_measured(); });
    beside_.wait();
    spectra.measure_rest();
    if (!rows || !rows->error.empty()) return;
    const std::size_t unit = rows_units_.front();
    report(unit, std::move(*rows), plan_.units[unit].flops);
    rows_units_.erase(rows_units_.begin());
  }

  /// Batches through the layer, `between` after as many as go together.
  void run_round(std::int64_t layer, const LoadedLayer& loaded, Round& round, const std::function<void()>& between) {
    for (auto& batch : round) {
      if (!batch->runs_in(layer)) continue;
      if (loaded.weights_error) batch->error = loaded.weights_error;
      if (!batch->error && batch->measurement.wants().value_spectra) batch->error = loaded.values_error;
    }
    for (std::size_t first = 0; first < round.size(); between()) first = run_some(layer, loaded, round, first);
  }

  /// Loads the other layers of the units; returns the units with the layer of each. One that cannot be read, for want
  /// of memory perhaps, is left to its turn: its units go back.
  std::vector<LayerSpectra::Task> load_in_flight(std::int64_t layer, const LoadedLayer& loaded,
                                                 std::vector<std::size_t>& units, bool any_batch) {
    std::map<std::int64_t, const LoadedLayer*> layers{{layer, &loaded}};
    const auto number_of = [&](std::size_t unit) { return plan_.units[unit].of_layer()->layer; };
    for (const std::size_t unit : units) {
      const auto [place, is_new] = layers.try_emplace(number_of(unit));
      if (!is_new) continue;
      const LoadedLayer& other = stream_.load(place->first, needs_of(units, place->first, any_batch));
      if (other.is_good())
        place->second = &other;
      else
        stream_.release(place->first);
    }
    std::vector<LayerSpectra::Task> tasks;
    std::vector<std::size_t> kept;
    for (const std::size_t unit : units) {
      const LoadedLayer* of_unit = layers.at(number_of(unit));
      (of_unit == nullptr ? layer_units_ : kept).push_back(unit);
      if (of_unit != nullptr) tasks.push_back({unit, of_unit});
    }
    units = std::move(kept);
    return tasks;
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
    needs.values = any_batch && wants_values_;
    for (const std::size_t unit : units) {
      const LayerWork& work = *plan_.units[unit].of_layer();
      if (work.layer != layer) continue;
      add_roles(work.analysis->is_sliced() ? needs.sliced : needs.matrices, roles_of(description_, work));
      needs.values |= work.analysis->needs_value_spectra();
    }
    return needs;
  }

  /// Of the layer that is read after this one, if it is known: the round's next one, or the first one of another round.
  void read_ahead(std::int64_t layer) {
    std::int64_t next = layer + 1;
    if (next == options_.layers.last) {
      if (!rounds_->any_left()) return;
      next = options_.layers.first;
    }
    std::vector<std::size_t> there;
    for (const std::size_t unit : layer_units_)
      if (plan_.units[unit].of_layer()->layer == next && !find_refusal(unit)) there.push_back(unit);
    stream_.read_ahead(next, needs_of(there, next, true));
  }

  /// Runs the next batches from `first` on through the layer, as many as go together; returns the one after them.
  std::size_t run_some(std::int64_t layer, const LoadedLayer& loaded, Round& round, std::size_t first) {
    std::vector<BatchUnderWay*> together;
    std::vector<BlockBatch> in_block;
    std::int64_t num_tokens = 0;
    std::size_t next = first;
    for (; next < round.size(); ++next) {
      BatchUnderWay& batch = *round[next];
      if (batch.runs_in(layer)) {
        if (!together.empty() && num_tokens + batch.tokens.num_tokens() > tokens_together(stream_.device())) break;
        num_tokens += batch.tokens.num_tokens();
        together.push_back(&batch);
        in_block.push_back(batch.in_block(layer, loaded.values));
      } else if (batch.error) {
        progress(batch.layer_flops);
      }
    }
    if (together.empty()) return next;
    const StageTimer timer(Stage::forward);
    const std::string here = "layer " + std::to_string(layer);
    const auto error = error_of(here, [&] { run_block(description_, layer, *loaded.weights, in_block); });
    for (std::size_t i = 0; i < together.size(); ++i) {
      BatchUnderWay& batch = *together[i];
      batch.error = error ? error : error_of(here, [&] { see_block(layer, in_block[i], batch); });
      progress(batch.layer_flops);
    }
    return next;
  }

  /// What the block left of a batch.
  void see_block(std::int64_t layer, const BlockBatch& in_block, BatchUnderWay& batch) const {
    if (in_block.error) std::rethrow_exception(in_block.error);
    batch.see_block(layer);
    const double in_statistics = batch.flops_of_statistics(description_, plan_);
    count_flops(Stage::forward, batch.layer_flops - in_statistics);
    count_flops(Stage::statistics, in_statistics);
  }

  void finish(BatchUnderWay& batch) {
    Record record;
    if (!batch.error) batch.error = error_of("what was measured", [&] { record = batch.finish(); });
    batch.hidden = batch.normed = Tensor();
    report(batch.unit, batch.error ? failed_record(*batch.error) : std::move(record), 0);
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
  std::vector<std::size_t> layer_units_, rows_units_, tensor_units_;
  bool has_batches_ = false;
  const bool wants_values_;
  std::optional<Rounds> rounds_;
  Stopwatch since_state_;
  SideThread beside_;  // takes spectra while a device runs the forward pass
};

}  // namespace

bool run_pass(LayerStream& stream, const ModelPlan& plan, const std::vector<std::size_t>& units,
              const PassOptions& options, const PassEvents& events) {
  return Pass(stream, plan, options, events).run(units);
}

}  // namespace spectrace
