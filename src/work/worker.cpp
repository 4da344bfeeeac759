#include "spectrace/work/worker.hpp"

#include <fmt/format.h>

#include <map>
#include <random>
#include <set>
#include <span>

#include "layer_spectra.hpp"
#include "spectrace/core/host_memory.hpp"
#include "spectrace/core/log.hpp"
#include "spectrace/core/stage_times.hpp"
#include "spectrace/core/stopwatch.hpp"
#include "spectrace/measure/prompts.hpp"
#include "spectrace/plan/memory.hpp"
#include "spectrace/results/record_fit.hpp"
#include "spectrace/store/journal.hpp"
#include "spectrace/work/collector.hpp"
#include "spectrace/work/error_of.hpp"
#include "spectrace/work/opening.hpp"
#include "spectrace/work/part_signature.hpp"
#include "spectrace/work/pass.hpp"
#include "spectrace/work/preparation.hpp"
#include "spectrace/work/run_info.hpp"

namespace spectrace {

/// A model that this rank works on.
struct Worker::Opened : OpenedModel {
  Opened(const RunContext& context, std::size_t index)
      : OpenedModel(context, context.job.models[index]),
        number(index),
        journal(journal_folder(context.job, context.job.models[index]), context.rank),
        stream(model, context.job.compute.dtype, context.job.slicing, context.device),
        on_device(device_memory_need(model.description, plan, context.job.compute.dtype, context.device)),
        summed(model.description, plan, context.job.slicing),
        sums_bytes_limit(spectrace::sums_bytes_limit(context.job, model.description, plan, context.memory_bytes)) {}

  /// Notes in the record which bytes it was made of: what was read is what is identified. What is noted already, by
  /// those who had the batch before, stays.
  void sign(Record& record, const std::vector<std::string>& tensors, bool whole) {
    auto& names = record.texts["tensors"];
    auto& digests = record.texts["digests"];
    const std::set<std::string> there(names.begin(), names.end());
    for (const auto& tensor : tensors) {
      if (there.contains(tensor)) continue;
      const TensorInfo& info = *model.store.find(tensor);
      // Rows of an embedding were picked out; the rest of the tensor is read once for its digest.
      const auto digest = whole ? model.store.read_digest(info) : model.store.digest(info);
      if (!digest) continue;
      names.push_back(tensor);
      digests.push_back(*digest);
    }
    record.texts["fingerprint"] = {model.store.fingerprint()};
  }

  Record finished(const Unit& unit, Record record);
  /// Where an earlier start left a batch.
  std::optional<BatchState> find_state(const Unit& unit) const;

  const std::vector<std::string>& tensors(const Unit& unit) {
    const BatchWork* batch = unit.of_batch();
    if (batch == nullptr) return scratch = tensors_of(model.description, unit);
    std::vector<std::string>& of_batches = batch->is_predicted ? of_predicted : of_prompts;
    if (of_batches.empty()) of_batches = tensors_of(model.description, unit);
    return of_batches;
  }

  std::size_t number;
  JournalWriter journal;
  LayerStream stream;
  DeviceNeed on_device;
  SummedQuantities summed;
  std::int64_t sums_bytes_limit;
  std::map<std::string, std::string> told;                     // digests of tensors that root knows of
  std::vector<std::string> of_prompts, of_predicted, scratch;  // names of tensors
};

Worker::Worker(RunContext& context) : context_(context) {}
Worker::~Worker() = default;

Report Worker::run(const Order& order) {
  context_.device.make_current();
  const Stopwatch watch;
  Report report = carry_out(order);
  context_.busy_s.store(context_.busy_s.load() + watch.elapsed_s());
  return report;
}

Report Worker::carry_out(const Order& order) {
  const Assignment& assignment = order.assignment;
  switch (assignment.step) {
    case Step::open: {
      const StageTimer timer(Stage::opening);
      return open(assignment.model);
    }
    case Step::work: return work(assignment);
    case Step::collect: {
      const StageTimer timer(Stage::writing);
      return collect(order);
    }
  }
  throw InternalError(fmt::format("a rank was told to do step {}", static_cast<int>(assignment.step)));
}

Worker::Opened& Worker::opened(std::size_t model) {
  if (!opened_ || opened_->number != model) {
    opened_.reset();
    const StageTimer timer(Stage::opening);
    opened_ = std::make_unique<Opened>(context_, model);
  }
  return *opened_;
}

namespace {

ModelFinished finished(Collection collection) {
  return {.outcome = std::move(collection.outcome), .rows = std::move(collection.rows), .was_there = false};
}

/// Whether the assignment's batches are too many to be under way at once.
bool needs_several_rounds(const RunContext& context, const OpenModel& model, const ModelPlan& plan,
                          const Assignment& assignment, const PassOptions& options) {
  std::int64_t bytes = 0;
  for (const std::size_t unit : assignment.units)
    if (const BatchWork* batch = plan.units[unit].of_batch())
      bytes += bytes_under_way(model.description, plan, *batch, context.job.compute.dtype);
  return options.hidden_bytes_limit > 0 && bytes > options.hidden_bytes_limit;
}

/// Tells the checkpoint which rows of the embedding the assignment's batches need.
void expect_rows(const RunContext& context, const OpenModel& model, const ModelPlan& plan,
                 const Assignment& assignment) {
  std::vector<std::int64_t> token_ids;
  std::size_t longest = 0;
  for (const std::size_t unit : assignment.units) {
    const BatchWork* batch = plan.units[unit].of_batch();
    if (batch == nullptr) continue;
    for (const std::size_t prompt : batch->prompts) {
      const auto& ids = plan.sets[batch->set].prompts[prompt].token_ids;
      token_ids.insert(token_ids.end(), ids.begin(), ids.end());
      longest = std::max(longest, ids.size());
    }
  }
  if (longest == 0) return;
  expect_tokens(model.description, model.store, std::move(token_ids), static_cast<std::int64_t>(longest),
                context.job.compute.dtype);
}

/// What is wrong with a model ends this model; what is wrong with the output folder, or our own mistake, the run.
template <typename F>
Report with_outcome(const RunContext& context, const ModelEntry& entry, F&& f) {
  std::optional<Report> report;
  const auto outcome = outcome_of(entry.name, [&] { report = f(); });
  if (outcome) return finished(unopened_model(context, entry, *outcome));
  return std::move(*report);
}

/// Of a stage that cannot do its part: takes what comes, so that those before it are not kept waiting, and tells the
/// next one that nothing will.
void pass_by(RunContext& context, const Assignment& assignment) {
  if (context.rank + 1 < assignment.first_rank + assignment.num_ranks) {
    context.link.send(context.rank + 1, std::string());
    context.link.flush();
  }
  if (context.rank == assignment.first_rank) return;
  for (auto bytes = context.link.receive(context.rank - 1, /*wait=*/true); bytes && !bytes->empty();)
    bytes = context.link.receive(context.rank - 1, /*wait=*/true);
}

}  // namespace

Report Worker::open(std::size_t model) {
  const ModelEntry& entry = context_.job.models[model];
  return with_outcome(context_, entry, [&]() -> Report {
    Opening opening = open_for_work(context_, entry);
    if (opening.complete) {
      ModelFinished report = finished(finished_model(context_, entry, std::move(*opening.finished)));
      report.was_there = true;
      return report;
    }
    return_freed_memory();
    return ModelOpened{.units = std::move(opening.units),
                       .stages = opening.stages,
                       .sums = std::move(opening.sums),
                       .num_journalled = opening.num_journalled,
                       .journalled_flops = opening.journalled_flops,
                       .expected = {.busy_s = opening.expected_s,
                                    .peak_bytes = opening.expected_bytes,
                                    .is_calibrated = opening.is_calibrated}};
  });
}

/// A rank's ends of the link to the stages before and after its own.
class Worker::StageEnds {
 public:
  StageEnds(RunContext& context, Opened& opened, const LayerRange& layers)
      : context_(context),
        opened_(opened),
        tensors_(tensors_of_layers(opened.model.description, layers.first, layers.last)) {}

  bool send(std::size_t unit, BatchState state) {
    // The next stage has not seen these tensors.
    opened_.sign(state.record, tensors_, /*whole=*/true);
    state.record.texts["batch"] = {std::to_string(unit), std::to_string(state.next_layer)};
    return context_.link.send(context_.rank + 1, encode_record(state.record));
  }

  std::optional<PassEvents::Arrival> receive(bool wait) {
    if (is_over_) return std::nullopt;
    const auto bytes = context_.link.receive(context_.rank - 1, wait);
    if (!bytes) return std::nullopt;
    if (bytes->empty()) {
      is_over_ = true;
      return std::nullopt;
    }
    PassEvents::Arrival arrival{0, {0, decode_record(std::as_bytes(std::span(*bytes)))}};
    auto& texts = arrival.state.record.texts;
    arrival.unit = std::stoull(texts.at("batch").at(0));
    arrival.state.next_layer = std::stoll(texts.at("batch").at(1));
    texts.erase("batch");
    return arrival;
  }

  /// No more will come.
  void close() {
    context_.link.send(context_.rank + 1, std::string());
    context_.link.flush();
  }

 private:
  RunContext& context_;
  Opened& opened_;
  std::vector<std::string> tensors_;
  bool is_over_ = false;
};

Report Worker::work(const Assignment& assignment) {
  const ModelEntry& entry = context_.job.models[assignment.model];
  const auto outcome = outcome_of(entry.name, [&] { opened(assignment.model); });
  if (!outcome) return work_on_opened(assignment);
  // It could be opened before: its checkpoint has gone meanwhile, or is another one.
  ModelFinished given_up = finished(unopened_model(context_, entry, *outcome));
  pass_by(context_, assignment);
  return given_up;
}

/// How the rank goes through its part of the layers, and what of them may stay in its memory.
PassOptions Worker::options_of(const Assignment& assignment, Opened& opened) const {
  const Job& job = context_.job;
  const ModelDescription& model = opened.model.description;
  PassOptions options;
  options.slicing = job.slicing;
  options.hidden_bytes_limit = hidden_bytes_limit(job, model, opened.plan, context_.memory_bytes);
  options.memory_bytes = context_.memory_bytes;
  options.layers_in_flight = layers_in_flight(job, model, opened.plan, context_.memory_bytes);
  options.tensors_in_flight_bytes = tensors_in_flight_bytes(opened.plan, context_.memory_bytes);
  options.stage = context_.rank - assignment.first_rank;
  options.num_stages = assignment.num_ranks;
  options.layers =
      stage_layers(layer_costs(model, opened.plan), options.num_stages)[static_cast<std::size_t>(options.stage)];
  // Layers stay if they are passed again: by a later round, or in a later assignment.
  std::int64_t may_stay = resident_bytes_limit(job, model, opened.plan, context_.memory_bytes);
  if (!context_.device.is_host())
    may_stay =
        std::min(may_stay, resident_bytes_limit(opened.on_device, options.hidden_bytes_limit, context_.device_bytes));
  std::int64_t bytes = 0;
  for (std::int64_t layer = options.layers.first; layer < options.layers.last; ++layer)
    bytes += layer_size_bytes(model, layer, job.compute.dtype);
  options.layers_stay = bytes <= may_stay;
  const bool are_passed_again = options.num_stages > 1 || !assignment.is_last ||
                                needs_several_rounds(context_, opened.model, opened.plan, assignment, options);
  opened.stream.may_keep(are_passed_again ? may_stay : 0);
  return options;
}

/// Signed with what it was made of, or as failed because that has changed or cannot be told.
Record Worker::Opened::finished(const Unit& unit, Record record) {
  if (!record.error.empty()) return record;
  try {
    model.store.expect_unchanged();
    sign(record, tensors(unit), /*whole=*/true);
    if (const RowsWork* rows = unit.of_rows(); rows != nullptr && rows->is_part) sign_part(record, model, *rows);
    return record;
  } catch (const InputError& error) {
    return failed_record(error.what());
  }
}

std::optional<BatchState> Worker::Opened::find_state(const Unit& unit) const {
  const auto place = preparation.states.find(unit.key);
  if (place == preparation.states.end()) return std::nullopt;
  try {
    return BatchState{place->second.next_layer, read_journal_record(place->second.entry)};
  } catch (const InputError& error) {
    log_warning("{}; the batch begins anew", error.what());
    return std::nullopt;
  }
}

/// Of a batch whose prompts all ran: what others take up one by one has more to it than sums.
void Worker::add_to_sums(Opened& opened, std::size_t index, const Record& record, UnitsWorked& worked) {
  const BatchWork* batch = opened.plan.units[index].of_batch();
  if (batch == nullptr || !record.error.empty() || record.texts.contains(kPromptErrors)) return;
  const StageTimer timer(Stage::statistics);
  const bool is_in = context_.sums.add(opened.number, opened.summed.shape(), opened.sums_bytes_limit,
                                       [&](BatchSums& sums) { opened.summed.add(index, *batch, record, sums); });
  if (!is_in) return;
  const auto &names = record.texts.at("tensors"), &digests = record.texts.at("digests");
  for (std::size_t i = 0; i < names.size(); ++i)
    if (auto& told = opened.told[names[i]]; told != digests[i]) {
      told = digests[i];
      worked.tensors.emplace_back(names[i], digests[i]);
    }
}

PassEvents Worker::events_of(Opened& opened, std::size_t& num_units, UnitsWorked& worked) {
  PassEvents events;
  events.on_done = [&](std::size_t index, Record measured) {
    const Unit& unit = opened.plan.units[index];
    const Record record = opened.finished(unit, std::move(measured));
    opened.journal.append(unit.key, record);
    add_to_sums(opened, index, record, worked);
    ++num_units;
  };
  events.on_progress = [&](double flops) { context_.add_flops(flops); };
  events.stop_requested = [&] { return context_.stop.load(); };
  events.on_state = [&](std::size_t index, BatchState state) {
    const Unit& unit = opened.plan.units[index];
    opened.sign(state.record, opened.tensors(unit), /*whole=*/false);
    opened.journal.append(unit.key + "@" + std::to_string(state.next_layer), state.record);
  };
  events.find_state = [&](std::size_t index) { return opened.find_state(opened.plan.units[index]); };
  return events;
}

Report Worker::work_on_opened(const Assignment& assignment) {
  const Stopwatch watch;
  Opened& opened = this->opened(assignment.model);
  const PassOptions options = options_of(assignment, opened);
  context_.link.may_wait(2 * static_cast<std::size_t>(batch_totals(opened.plan.units, assignment.units).together()));
  if (options.stage == 0) expect_rows(context_, opened.model, opened.plan, assignment);

  RankReport report;
  const std::uint64_t read_before = opened.model.store.bytes_read();
  const StageTimes times_before = stage_times();
  UnitsWorked worked;
  PassEvents events = events_of(opened, report.num_units, worked);
  StageEnds ends(context_, opened, options.layers);
  const bool is_last = options.stage + 1 == options.num_stages;
  if (options.stage > 0) events.receive = [&](bool wait) { return ends.receive(wait); };
  if (!is_last) events.send = [&](std::size_t unit, BatchState state) { return ends.send(unit, std::move(state)); };
  report.stopped = !run_pass(opened.stream, opened.plan, assignment.units, options, events);
  if (!is_last) ends.close();
  report.compute_s = watch.elapsed_s();
  report.stages = stage_times() - times_before;
  report.bytes_read = opened.model.store.bytes_read() - read_before;
  context_.bytes_read += report.bytes_read;

  Record note;
  note.texts["report"] = {report.to_json(context_.rank, context_.num_threads, context_.device)};
  opened.journal.append(fmt::format("{}{}/{}", kReportKey, context_.rank, std::random_device()()), note);
  opened.journal.flush();
  worked.journal_file = opened.journal.file_name();
  return worked;
}

Report Worker::collect(const Order& order) {
  // Nothing of another model is kept in memory meanwhile.
  opened_.reset();
  return_freed_memory();
  const ModelEntry& entry = context_.job.models[order.assignment.model];
  return with_outcome(context_, entry, [&]() -> Report {
    Collection collection = collect_model(context_, order);
    if (!collection.again.empty()) return RecordsMissing{.units = std::move(collection.again)};
    return finished(std::move(collection));
  });
}

}  // namespace spectrace
