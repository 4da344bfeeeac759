#include "spectrace/run/worker.hpp"

#include <fmt/format.h>

#include <map>
#include <random>

#include "spectrace/core/log.hpp"
#include "spectrace/core/stopwatch.hpp"
#include "spectrace/plan/memory.hpp"
#include "spectrace/run/collector.hpp"
#include "spectrace/run/pass.hpp"
#include "spectrace/run/preparation.hpp"
#include "spectrace/run/run_info.hpp"
#include "spectrace/store/journal.hpp"

namespace spectrace {

/// A model that this rank works on.
struct Worker::Opened {
  Opened(const RunContext& context, std::size_t index)
      : number(index),
        preparation(Preparation::read(context, context.job.models[index])),
        model(open_model_folder(preparation.folder, context.io)),
        plan(plan_of(context.job, model, std::move(preparation.sets), preparation.analyses)),
        journal(context.journal_folder(context.job.models[index]), context.rank) {}

  /// Notes in the record which bytes it was made of: what was read is what is identified.
  void sign(Record& record, const Unit& unit, bool whole) {
    auto& names = record.texts["tensors"];
    auto& digests = record.texts["digests"];
    for (const auto& tensor : tensors(unit)) {
      const TensorInfo& info = *model.store.find(tensor);
      // Rows of an embedding were picked out; the rest of the tensor is read once for its digest.
      const auto digest = whole ? model.store.read_digest(info) : model.store.digest(info);
      if (!digest) continue;
      names.push_back(tensor);
      digests.push_back(*digest);
    }
    record.texts["fingerprint"] = {model.store.fingerprint()};
  }

  const std::vector<std::string>& tensors(const Unit& unit) {
    const bool is_prompts = unit.kind == UnitKind::prompts;
    if (!is_prompts) return scratch = tensors_of(model.description, unit);
    if (of_prompts.empty()) of_prompts = tensors_of(model.description, unit);
    return of_prompts;
  }

  std::size_t number;
  Preparation preparation;
  OpenModel model;
  ModelPlan plan;
  JournalWriter journal;
  std::vector<std::string> of_prompts, scratch;  // names of tensors
};

Worker::Worker(RunContext& context) : context_(context) {}
Worker::~Worker() = default;

Json Worker::run(const Assignment& assignment) {
  const Stopwatch watch;
  Json report = do_assignment(assignment);
  context_.busy_s.store(context_.busy_s.load() + watch.elapsed_s());
  return report;
}

Json Worker::do_assignment(const Assignment& assignment) {
  switch (assignment.step) {
    case Step::open: return open(assignment.model);
    case Step::work: return work(assignment);
    case Step::collect: return collect(assignment.model);
  }
  return {};
}

Worker::Opened& Worker::opened(std::size_t model) {
  if (!opened_ || opened_->number != model) {
    opened_.reset();
    opened_ = std::make_unique<Opened>(context_, model);
  }
  return *opened_;
}

namespace {

Json to_json(const std::vector<OpenUnit>& units) {
  Json json = Json::array();
  for (const auto& unit : units) json.push_back({unit.unit, unit.flops});
  return json;
}

Json to_json(const Collection& collection) {
  return {{"status", static_cast<int>(collection.outcome.status)},
          {"error", collection.outcome.error},
          {"rows", rows_to_json(collection.rows)},
          {"again", to_json(collection.again)}};
}

/// What is wrong with a model ends this model; what is wrong with the output folder, or our own mistake, the run.
template <typename F>
Json with_outcome(const RunContext& context, const ModelEntry& entry, F&& f) {
  ModelOutcome outcome;
  try {
    return f();
  } catch (const InputError& error) {
    if (error.kind() == ErrorKind::io) throw;
    outcome = {error.kind() == ErrorKind::usage ? ModelStatus::mismatch : ModelStatus::failed, error.what()};
  } catch (const std::exception& error) {
    outcome = {ModelStatus::failed, entry.name + ": " + error.what()};
  }
  Json json = to_json(unopened_model(context, entry, outcome));
  json["units"] = Json::array();
  json["complete"] = true;
  return json;
}

}  // namespace

Json Worker::open(std::size_t model) {
  const ModelEntry& entry = context_.job.models[model];
  return with_outcome(context_, entry, [&]() -> Json {
    const Opening opening = open_for_work(context_, entry);
    if (opening.complete) {
      Json json = to_json(finished_model(context_, entry));
      json["units"] = Json::array();
      json["complete"] = json["was_there"] = true;
      return json;
    }
    return {{"complete", false},
            {"units", to_json(opening.units)},
            {"num_journalled", opening.num_journalled},
            {"journalled_flops", opening.journalled_flops}};
  });
}

Json Worker::work(const Assignment& assignment) {
  const Stopwatch watch;
  Opened& opened = this->opened(assignment.model);
  const Job& job = context_.job;
  PassOptions options;
  options.dtype = job.compute.dtype;
  options.slicing = job.slicing;
  const AnalysisChoice& analyses = opened.plan.analyses;
  options.prompt_analyses = {analyses.attention, analyses.sheaf, analyses.residual, job.graph_eigenvalues,
                             job.beta.values()};
  options.hidden_bytes_limit = hidden_bytes_limit(job, opened.model.description, opened.plan, context_.memory_bytes);

  options.memory_bytes = context_.memory_bytes;

  RankReport report;
  const std::uint64_t read_before = opened.model.store.bytes_read();
  PassEvents events;
  events.on_done = [&](std::size_t index, Record record) {
    const Unit& unit = opened.plan.units[index];
    if (record.error.empty()) {
      try {
        opened.model.store.expect_unchanged();
        opened.sign(record, unit, /*whole=*/true);
      } catch (const InputError& error) {
        record = Record();
        record.error = error.what();
      }
    }
    opened.journal.append(unit.key, record);
    ++report.num_units;
  };
  events.on_progress = [&](double flops) { context_.add_flops(flops); };
  events.stop_requested = [&] { return context_.stop.load(); };
  events.on_state = [&](std::size_t index, BatchState state) {
    const Unit& unit = opened.plan.units[index];
    opened.sign(state.record, unit, /*whole=*/false);
    opened.journal.append(unit.key + "@" + std::to_string(state.next_layer), state.record);
  };
  events.find_state = [&](std::size_t index) -> std::optional<BatchState> {
    const std::string& key = opened.plan.units[index].key;
    const auto place = opened.preparation.states.find(key);
    if (place == opened.preparation.states.end()) return std::nullopt;
    try {
      return BatchState{place->second.next_layer, read_journal_record(place->second.entry)};
    } catch (const InputError& error) {
      log_warning("{}; the batch begins anew", error.what());
      return std::nullopt;
    }
  };
  report.stopped = !run_pass(opened.model, opened.plan, assignment.units, options, events);
  report.compute_s = watch.elapsed_s();
  report.bytes_read = opened.model.store.bytes_read() - read_before;
  context_.bytes_read += report.bytes_read;

  Record note;
  note.texts["report"] = {report.to_json(context_.rank, context_.num_threads)};
  opened.journal.append(fmt::format("{}{}/{}", kReportKey, context_.rank, std::random_device()()), note);
  opened.journal.flush();
  return {{"stopped", report.stopped}, {"compute_s", report.compute_s}, {"bytes_read", report.bytes_read}};
}

Json Worker::collect(std::size_t model) {
  // Nothing of another model is kept in memory meanwhile.
  opened_.reset();
  const ModelEntry& entry = context_.job.models[model];
  return to_json(collect_model(context_, entry));
}

}  // namespace spectrace
