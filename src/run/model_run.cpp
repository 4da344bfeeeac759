#include "spectrace/run/model_run.hpp"

#include <algorithm>
#include <map>

#include "spectrace/comm/launch.hpp"
#include "spectrace/core/file.hpp"
#include "spectrace/core/log.hpp"
#include "spectrace/core/stopwatch.hpp"
#include "spectrace/run/assemble.hpp"
#include "spectrace/run/pass.hpp"
#include "spectrace/run/preparation.hpp"
#include "spectrace/run/result_attributes.hpp"
#include "spectrace/run/run_info.hpp"
#include "spectrace/run/run_job.hpp"
#include "spectrace/run/share.hpp"
#include "spectrace/run/statistics.hpp"
#include "spectrace/store/journal.hpp"
#include "spectrace/store/result_file.hpp"

namespace spectrace {
namespace {

constexpr int kTagRequest = 201, kTagRecord = 202;

/// Does what one rank does alone. An exception there would leave the others waiting for it in the next collective: it
/// ends the run on all ranks, with everything journalled kept.
template <typename F>
auto alone(const RunContext& context, F&& f) {
  try {
    return f();
  } catch (const std::exception& error) {
    log_error("{} (rank {} on {}). The run ends; what is finished is safe: run the same command again to go on.",
              error.what(), context.communicator.rank(), host_name());
    flush_log();
    context.communicator.abort(kNothingReadOrWritten);
    throw;  // not reached
  }
}

/// One model under work, on one rank. Its functions are the steps of run_model.
class ModelWork {
 public:
  ModelWork(const RunContext& context, std::size_t model_index, Preparation preparation)
      : context_(context),
        entry_(context.job.models[model_index]),
        model_index_(model_index),
        preparation_(std::move(preparation)),
        model_(alone(context, [&] { return open_model_folder(preparation_.folder, context.io); })),
        plan_(plan_model(model_.description, preparation_.analyses, preparation_.sets,
                         context.job.compute.tokens_per_batch)) {
    analyses_.attention = plan_.analyses.attention;
    analyses_.sheaf = plan_.analyses.sheaf;
    analyses_.residual = plan_.analyses.residual;
    analyses_.graph_eigenvalues = context.job.graph_eigenvalues;
    analyses_.beta = context.job.beta.values();
    share_out();
  }

  /// Does this rank's share. @return false if any rank was stopped. Collective.
  bool compute() {
    double done = 0;
    for (const auto& unit : plan_.units)
      if (preparation_.journal.contains(unit.key)) done += unit.flops;
    context_.progress.start_model(model_index_, entry_.name, plan_.total_flops(), done);

    const RankReport report = alone(context_, [&] { return do_share(); });
    rank_reports_ = context_.progress.finish_share(report.to_json(context_.communicator.rank(), context_.num_threads));
    return std::none_of(rank_reports_.begin(), rank_reports_.end(),
                        [](const auto& text) { return Json::parse(text)["stopped"].template get<bool>(); });
  }

  /// Brings the records together, reduces the statistics; on root, writes the results. Collective.
  ModelOutcome finish() {
    alone(context_, [&] { load_journalled(); });
    Assembly assembly(model_.description, plan_, context_.job.slicing, analyses_);
    const Stopwatch watch;
    gather(assembly);
    reduce(assembly);
    reduce_s_ = watch.elapsed_s();
    const std::string outcome = share_from_root(context_.communicator, [&] { return write(assembly); });
    const Json json = Json::parse(outcome);
    return {static_cast<ModelStatus>(json["status"].get<int>()), json["error"], false, 0};
  }

 private:
  RankReport do_share() {
    const Stopwatch watch;
    JournalWriter journal(context_.journal_folder(entry_), context_.communicator.rank());
    PassEvents events;
    events.on_done = [&](std::size_t unit, Record record) {
      // What failed is not journalled: it may be mended by the next start.
      if (record.error.empty()) journal.append(plan_.units[unit].key, record);
      records_[unit] = std::move(record);
    };
    events.on_progress = [&](double flops) { context_.progress.add(flops); };
    events.stop_requested = [&] { return context_.stop.requested(); };
    RankReport report;
    report.num_units = share_.size();
    report.stopped = !run_pass(model_, plan_, share_, pass_options(), events);
    report.compute_s = watch.elapsed_s();
    report.bytes_read = model_.store.bytes_read();
    return report;
  }

  void load_journalled() {
    for (const std::size_t unit : journalled_)
      if (owner_[unit] == context_.communicator.rank())
        records_[unit] = read_journal_record(preparation_.journal.at(plan_.units[unit].key));
  }

  /// Who does which unit, who brings in which finished one: the same on all ranks.
  void share_out() {
    const int size = context_.communicator.size();
    std::vector<std::size_t> open;
    owner_.resize(plan_.units.size());
    for (std::size_t unit = 0; unit < plan_.units.size(); ++unit) {
      if (preparation_.journal.contains(plan_.units[unit].key)) {
        owner_[unit] = static_cast<int>(journalled_.size()) % size;
        journalled_.push_back(unit);
      } else {
        open.push_back(unit);
      }
    }
    const auto shares = assign_units(plan_.units, open, size);
    for (int rank = 0; rank < size; ++rank)
      for (const std::size_t unit : shares[static_cast<std::size_t>(rank)]) owner_[unit] = rank;
    share_ = shares[static_cast<std::size_t>(context_.communicator.rank())];
  }

  PassOptions pass_options() const {
    PassOptions options;
    options.dtype = context_.job.compute.dtype;
    options.slicing = context_.job.slicing;
    options.prompt_analyses = analyses_;
    options.hidden_bytes_limit = hidden_bytes_limit();
    return options;
  }

  /// What max_memory_gib leaves for hidden states beside the libraries, the largest layer and the work on it.
  std::int64_t hidden_bytes_limit() const {
    if (!context_.job.compute.max_memory_gib) return 0;
    constexpr double kLibraries = 400.0 * (1 << 20);
    std::int64_t layer = 0, longest = 1, tokens = 1;
    for (std::int64_t l = 0; l < model_.description.num_layers; ++l)
      layer = std::max(layer, layer_size_bytes(model_.description, l, context_.job.compute.dtype));
    for (const auto& unit : plan_.units) tokens = std::max(tokens, unit.num_tokens);
    for (const auto& set : plan_.sets)
      for (const auto& prompt : set.prompts)
        if (prompt.error.empty()) longest = std::max(longest, static_cast<std::int64_t>(prompt.token_ids.size()));
    const double left =
        *context_.job.compute.max_memory_gib * (1 << 30) - kLibraries - 1.5 * static_cast<double>(layer) -
        static_cast<double>(block_workspace_bytes(model_.description, tokens, longest, context_.job.compute.dtype));
    return std::max<std::int64_t>(1, static_cast<std::int64_t>(left));
  }

  /// Every record to root, in the order of units, one at a time: root asks, the owner answers.
  void gather(Assembly& assembly) {
    Communicator& communicator = context_.communicator;
    for (std::size_t unit = 0; unit < plan_.units.size(); ++unit) {
      const int owner = owner_[unit];
      if (communicator.is_root()) {
        if (owner == 0) {
          assembly.add(unit, records_.at(unit));
        } else {
          communicator.send(owner, kTagRequest, "");
          const std::string bytes = communicator.receive(owner, kTagRecord);
          assembly.add(unit, decode_record(std::as_bytes(std::span(bytes))));
        }
      } else if (owner == communicator.rank()) {
        communicator.receive(0, kTagRequest);
        communicator.send(0, kTagRecord, encode_record(records_.at(unit)));
      }
    }
  }

  /// Statistics over the prompts of each set, from the records that each rank owns.
  void reduce(Assembly& assembly) {
    for (std::size_t s = 0; s < plan_.sets.size(); ++s) {
      const auto num_prompts = static_cast<std::int64_t>(plan_.sets[s].prompts.size());
      std::int64_t num_done = 0;
      std::vector<const Record*> mine;
      for (const auto& [unit, record] : records_)
        if (plan_.units[unit].kind == UnitKind::prompts && plan_.units[unit].set == s && record.error.empty()) {
          mine.push_back(&record);
          num_done += static_cast<std::int64_t>(plan_.units[unit].prompts.size());
        }
      context_.reducer.sum(std::span(&num_done, 1));
      for (const auto* quantity : quantities_of(analyses_))
        if (quantity->has_statistics) reduce_quantity(s, quantity->dataset, mine, num_prompts - num_done, assembly);
    }
  }

  void reduce_quantity(std::size_t set, const DatasetSpec& spec, const std::vector<const Record*>& mine,
                       std::int64_t num_failed, Assembly& assembly) {
    std::vector<Array> derived;
    std::vector<const Array*> arrays;
    if (spec.name == "free_energy") {
      for (const auto* record : mine)
        derived.push_back(free_energy(record->arrays.at("log_partition"), analyses_.beta));
      for (const auto& array : derived) arrays.push_back(&array);
    } else {
      for (const auto* record : mine) arrays.push_back(&record->arrays.at(spec.name));
    }
    std::int64_t num_slots = 1;
    for (const std::int64_t size :
         slot_shape(spec, model_.description, static_cast<std::int64_t>(analyses_.beta.size()), 0))
      num_slots *= size;
    assembly.add_statistics(set, spec.name, reduce_statistics(arrays, num_slots, num_failed, context_.reducer));
  }

  /// Root only: results file and run.json; the journal is not needed any more.
  std::string write(Assembly& assembly) {
    ResultTree tree;
    tree.groups = assembly.finish();
    if (preparation_.earlier) add_earlier_groups(*preparation_.earlier, tree);
    order_groups(context_.job, tree);
    set_effective_amplification(tree);

    const auto num_failed = static_cast<std::int64_t>(plan_.units.size()) - assembly.num_units_done();
    std::string error;
    for (const auto& line : assembly.errors()) error += (error.empty() ? "" : "\n") + line;
    const bool any_done = assembly.num_units_done() > 0 || preparation_.earlier;
    const auto status = error.empty() ? ModelStatus::ok : any_done ? ModelStatus::partial : ModelStatus::failed;
    tree.attributes = result_attributes(context_.job, entry_, model_, {name(status), error, num_failed});
    tree.attributes.emplace_back("prompt_sha256", preparation_.prompt_sha256);
    tree.attributes.emplace_back("identity",
                                 identity_to_json(merged_identity(preparation_.earlier, preparation_.identity)));
    // First: a kill between the two must not leave results that nobody knows anything of.
    write_run_info();
    write_result_file(context_.result_path(entry_), tree);
    drop_journal(context_, entry_);
    return Json{{"status", static_cast<int>(status)}, {"error", error}}.dump(-1, ' ', false,
                                                                             Json::error_handler_t::replace);
  }

  void write_run_info() const {
    const JsonNode note = JsonNode::parse_file(context_.journal_folder(entry_) / "identity.json", ErrorKind::io);
    Json info = {{"model", entry_.name},
                 {"ranks", context_.communicator.size()},
                 {"reduce_backend", context_.reducer.backend()},
                 {"num_starts", preparation_.num_starts},
                 {"units", plan_.units.size()},
                 {"units_of_earlier_starts", journalled_.size()},
                 {"digest_s", preparation_.digest_s},
                 {"reduce_s", reduce_s_},
                 {"estimated_flops", plan_.total_flops()},
                 {"slurm", slurm_ids()},
                 {"versions", versions()},
                 {"checkpoint_files", note.at("checkpoint_files").as_string()},
                 {"weights_sha256", note.at("weights_sha256").as_string()}};
    for (const auto& report : rank_reports_) info["rank_reports"].push_back(Json::parse(report));
    write_file_atomically(context_.run_info_path(entry_), info.dump(2) + "\n");
  }

  const RunContext& context_;
  const ModelEntry& entry_;
  std::size_t model_index_;
  Preparation preparation_;
  OpenModel model_;
  ModelPlan plan_;
  PromptAnalyses analyses_;
  std::vector<int> owner_;               // rank of each unit's record
  std::vector<std::size_t> journalled_;  // units of earlier starts
  std::vector<std::size_t> share_;       // units that this rank does
  std::map<std::size_t, Record> records_;
  std::vector<std::string> rank_reports_;
  double reduce_s_ = 0;
};

/// A model that could not even be opened still gets its file: it says why. Good results of an earlier run stay.
void write_failed_result(const RunContext& context, const ModelEntry& entry, const std::string& error) {
  const auto path = context.result_path(entry);
  if (std::filesystem::exists(path)) {
    const ResultTree there = read_result_file(path);
    const auto* status = there.find_attribute("status");
    if (status != nullptr && *status != AttributeValue(std::string(name(ModelStatus::failed)))) {
      log_warning("'{}' keeps the results of an earlier run", path.string());
      return;
    }
  }
  ResultTree tree;
  tree.attributes = failed_attributes(context.job, entry, error);
  write_result_file(context.result_path(entry), tree);
}

ModelOutcome outcome_of_complete(const RunContext& context, const ModelEntry& entry) {
  const std::string text = share_from_root(context.communicator, [&] {
    const ResultTree tree = read_result_file(context.result_path(entry));
    return Json{{"status", std::get<std::string>(*tree.find_attribute("status"))},
                {"error", std::get<std::string>(*tree.find_attribute("error"))}}
        .dump();
  });
  const Json json = Json::parse(text);
  return {json["status"] == "ok" ? ModelStatus::ok : ModelStatus::partial, json["error"], true, 0};
}

}  // namespace

const char* name(ModelStatus status) {
  switch (status) {
    case ModelStatus::ok: return "ok";
    case ModelStatus::partial: return "partial";
    case ModelStatus::failed: return "failed";
    case ModelStatus::mismatch: return "mismatch";
    case ModelStatus::stopped: return "stopped";
  }
  return "?";
}

ModelOutcome run_model(const RunContext& context, std::size_t model_index) {
  const ModelEntry& entry = context.job.models[model_index];
  const bool is_root = context.communicator.is_root();
  Preparation preparation;
  try {
    Preparation on_root;
    const std::string shared = share_from_root(context.communicator, [&] {
      on_root = prepare_model(context, entry);
      return on_root.to_json();
    });
    preparation = is_root ? std::move(on_root) : Preparation::from_json(shared);
  } catch (const InputError& error) {
    if (error.kind() == ErrorKind::io) throw;
    if (error.kind() == ErrorKind::usage) return {ModelStatus::mismatch, error.what(), false, 0};
    share_from_root(context.communicator, [&] {
      write_failed_result(context, entry, error.what());
      return "";
    });
    return {ModelStatus::failed, error.what(), false, 0};
  }
  if (preparation.complete) return outcome_of_complete(context, entry);
  ModelWork work(context, model_index, std::move(preparation));
  if (!work.compute()) return {ModelStatus::stopped, "", false, 0};
  return work.finish();
}

}  // namespace spectrace
