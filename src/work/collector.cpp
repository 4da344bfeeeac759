#include "spectrace/work/collector.hpp"

#include <limits>
#include <map>
#include <set>

#include "group_copy.hpp"
#include "join_of_parts.hpp"
#include "layer_spectra.hpp"
#include "set_numbers.hpp"
#include "spectrace/core/file.hpp"
#include "spectrace/core/hash.hpp"
#include "spectrace/core/log.hpp"
#include "spectrace/core/stage_times.hpp"
#include "spectrace/core/stopwatch.hpp"
#include "spectrace/plan/certain_need.hpp"
#include "spectrace/plan/machine_profile.hpp"
#include "spectrace/plan/memory.hpp"
#include "spectrace/results/assembly.hpp"
#include "spectrace/results/batch_sums.hpp"
#include "spectrace/results/digests.hpp"
#include "spectrace/results/failures.hpp"
#include "spectrace/results/layout.hpp"
#include "spectrace/results/record_fit.hpp"
#include "spectrace/results/result_attributes.hpp"
#include "spectrace/store/journal.hpp"
#include "spectrace/store/result_file.hpp"
#include "spectrace/work/error_of.hpp"
#include "spectrace/work/part_signature.hpp"
#include "spectrace/work/preparation.hpp"
#include "spectrace/work/run_info.hpp"

namespace spectrace {
namespace {

/// Of all sets of the file, those of earlier jobs among them.
std::string digest_of_sets(const ResultTree& tree) {
  std::string digests;
  for (const Group& group : tree.groups)
    for (const auto& [attribute, value] : group.attributes)
      if (const auto* digest = std::get_if<std::string>(&value); digest && attribute == "prompt_sha256")
        digests += *digest;
  return sha256_hex(digests);
}

class Collector {
 public:
  Collector(RunContext& context, const Order& order)
      : context_(context),
        order_(order),
        entry_(context.job.models[order.assignment.model]),
        opened_(context, entry_),
        preparation_(opened_.preparation),
        model_(opened_.model),
        plan_(opened_.plan),
        assembly_(model_.description, plan_, context.job.slicing, context.job.keep),
        summed_(model_.description, plan_, context.job.slicing) {
    // The assembly has them now.
    for (auto& set : plan_.sets)
      for (auto& prompt : set.prompts) prompt.token_ids = {};
    num_done_.assign(plan_.sets.size(), 0);
  }

  Collection collect() {
    const Stopwatch watch;
    take_sums();
    index_ = index(JournalCheck::headers);
    Collection collection;
    collection.again = add_units();
    if (!collection.again.empty()) {
      log_warning("{}: {} of {} finished units are no longer in the journal; they are done again", entry_.name,
                  collection.again.size(), plan_.units.size());
      return collection;
    }
    if (!preparation_.fresh)
      if (auto earlier = read_earlier_results(context_.job, entry_, WrongDigest::refused))
        earlier_ = std::move(*earlier);
    if (earlier_) digests_.add(*earlier_);
    if (!digests_.others().empty()) {
      drop_journal(context_, entry_, order_.journal_files);
      return unopened_model(
          context_, entry_,
          {ModelStatus::failed, "tensor '" + *digests_.others().begin() +
                                    "' was not the same for all ranks, or changed during the run. Let "
                                    "nobody write to the checkpoint, and run the same command again."});
    }
    join_sets(collection.again);
    if (!collection.again.empty()) return collection;
    const ResultTree small = write_file(watch, collection.again);
    if (!collection.again.empty()) return collection;
    // Else the next start goes on from what was done.
    if (assembly_.num_units_done() == static_cast<std::int64_t>(plan_.units.size()))
      drop_finished_journal(context_, entry_, order_.journal_files);
    collection.outcome = outcome_;
    collection.rows = summarize(context_.job, entry_, outcome_, &small);
    return collection;
  }

 private:
  /// Those of all ranks, with what they were made of.
  void take_sums() {
    if (!order_.sums_come) return;
    reduced_ = context_.sums.wait_for(order_.assignment.model);
    if (reduced_->sums.shape() != summed_.shape()) throw InternalError("the ranks' sums are of another plan");
    sums_ = std::move(reduced_->sums);
    for (std::size_t unit = 0; unit < sums_.units.size(); ++unit)
      if (sums_.units[unit] > 1) throw InternalError(plan_.units[unit].key + " is in two ranks' sums");
    for (const auto& [tensor, digest] : order_.tensors) digests_.add({tensor}, {digest});
  }

  /// Takes up every record, except what prompts' records hold by prompt: that is read again when it is written. Units
  /// whose records are not there.
  std::vector<OpenUnit> add_units() {
    std::vector<OpenUnit> missing;
    std::optional<JoinOfParts> join;
    for (std::size_t unit = 0; unit < plan_.units.size(); ++unit) {
      // Before the statistics need memory.
      if (join && plan_.units[unit].of_rows() == nullptr) finish_join(join);
      try {
        if (const BatchWork* batch = plan_.units[unit].of_batch(); batch != nullptr && sums_.has(unit)) {
          num_done_[batch->set] += static_cast<std::int64_t>(batch->prompts.size());
          assembly_.add(unit, {});
        } else {
          add_unit(unit, read(unit), join);
        }
      } catch (const InputError& error) {
        missing.push_back(missing_unit(unit, error));
      }
    }
    if (join) finish_join(join);
    return missing;
  }

  std::map<std::string, JournalEntry> index(JournalCheck check) const {
    return read_journal_index(journal_folder(context_.job, entry_), order_.journal_files, check);
  }

  /// A damaged record may have a good one behind it, of a rank that did the unit again.
  Record read(std::size_t unit) {
    const auto find = [&] {
      const auto place = index_.find(plan_.units[unit].key);
      if (place == index_.end()) throw InputError(ErrorKind::io, plan_.units[unit].key + " is not in the journal");
      return journal_.read(place->second);
    };
    try {
      return find();
    } catch (const InputError&) {
      if (is_index_checked_) throw;
    }
    index_ = index(JournalCheck::records);
    is_index_checked_ = true;
    return find();
  }

  OpenUnit missing_unit(std::size_t unit, const InputError& error) const {
    log_warning("{}: {}", entry_.name, error.what());
    return {.unit = unit, .flops = plan_.units[unit].flops, .seconds = WorkRates().seconds_of(plan_.units[unit])};
  }

  void add_unit(std::size_t index, const Record& record, std::optional<JoinOfParts>& join) {
    const Unit& unit = plan_.units[index];
    const RowsWork* rows = unit.of_rows();
    if (record.error.empty() && rows != nullptr && rows->is_part) {
      if (!join) join.emplace(model_, *rows->analysis);
      if (!join->add(index, record, unit.key, *rows))
        digests_.add_other(rows->analysis->matrix(model_.description).tensor);
      return;
    }
    if (record.error.empty()) {
      digests_.add(record.texts.at("tensors"), record.texts.at("digests"));
      if (const BatchWork* batch = unit.of_batch()) {
        num_done_[batch->set] += static_cast<std::int64_t>(batch->prompts.size());
        summed_.add(index, *batch, record, sums_);
      }
    }
    assembly_.add(index, record);
  }

  /// Parts without the others are done, but no results.
  void finish_join(std::optional<JoinOfParts>& join) {
    const auto& tensor = join->analysis().matrix(model_.description).tensor;
    Record whole;
    if (const auto digest = join->digest(); digest && !digests_.others().contains(tensor)) {
      whole = join->finish();
      if (whole.error.empty()) {
        digests_.add({tensor}, {*digest});
        assembly_.add_joined(join->analysis(), whole);
      }
    }
    Record part;
    part.error = whole.error;
    for (const std::size_t unit : join->units()) assembly_.add(unit, part);
    join.reset();
  }

  /// What analyses say of sets as wholes. A record that turns out to be damaged goes to `missing`.
  void join_sets(std::vector<OpenUnit>& missing) {
    const std::int64_t limit = set_join_bytes_limit(context_.job, model_.description, plan_, context_.memory_bytes);
    for (std::size_t s = 0; s < plan_.sets.size(); ++s) {
      const PlannedSet& set = plan_.sets[s];
      for (const Chosen& chosen : set.analyses) {
        if (!chosen.has_set_quantities()) continue;
        const Circumstances of = circumstances_of(set, chosen, model_.description, context_.job.slicing);
        Record numbers;
        std::size_t unit = 0;
        try {
          if (const auto lack = find_lack_of_join(chosen, of, set.name, context_.memory_bytes))
            numbers = failed_record(*lack);
          else
            numbers = numbers_of_set(chosen, of, set.name, limit, [&](const auto& visit) {
              for (unit = 0; unit < plan_.units.size(); ++unit) {
                const BatchWork* batch = plan_.units[unit].of_batch();
                if (batch == nullptr || batch->set != s) continue;
                if (const Record record = read(unit); record.error.empty()) visit(record);
              }
            });
          set_groups_[s].push_back(set_numbers_group(chosen, of, set.name, numbers));
        } catch (const InputError& error) {
          return missing.push_back(missing_unit(unit, error));
        }
      }
    }
  }

  /// Which groups there will be, and the small ones, in the contract's order.
  ResultTree outline() {
    ResultTree tree;
    tree.groups = assembly_.take_weights();
    for (std::size_t s = 0; s < plan_.sets.size(); ++s) {
      tree.groups.push_back(assembly_.take_set_group(s, earlier_ ? &*earlier_ : nullptr));
      const auto num_prompts = static_cast<std::int64_t>(plan_.sets[s].prompts.size());
      summed_.for_each_of(s, sums_, [&](const Quantity& quantity, const StatisticsSums& sums) {
        assembly_.add_statistics(s, quantity, sums.finish(num_prompts - num_done_[s]).values);
      });
      const Group* before = earlier_ ? earlier_->find(group_of_statistics(plan_.sets[s].name)) : nullptr;
      tree.groups.push_back(assembly_.take_statistics(s, before));
      if (before != nullptr) read_large(result_path(context_.job, entry_), tree.groups.back());
      std::move(set_groups_[s].begin(), set_groups_[s].end(), std::back_inserter(tree.groups));
    }
    sums_.sums.clear();
    tree.groups.push_back(digests_.group());
    for (const auto& group : tree.groups) is_new_.insert(group.path);
    if (earlier_) add_earlier_groups(*earlier_, tree);
    order_groups(context_.job, tree);
    update_scalars(tree, result_path(context_.job, entry_));
    return tree;
  }

  void set_attributes(ResultTree& tree) {
    std::string error;
    for (const auto& line : assembly_.errors_without_group()) error += (error.empty() ? "" : "\n") + line;
    for (const auto& line : group_errors_in(tree)) error += (error.empty() ? "" : "\n") + line;
    for (const auto& line : prompt_errors_in(tree)) error += (error.empty() ? "" : "\n") + line;
    const bool any_done = assembly_.num_units_done() > 0 || earlier_;
    outcome_ = {error.empty() ? ModelStatus::ok : any_done ? ModelStatus::partial : ModelStatus::failed, error};
    const Identity before = earlier_ ? identity_from_json(text_attribute(*earlier_, "identity")) : Identity();
    const Identity identity = merged(before, preparation_.identity);
    tree.attributes = result_attributes(
        context_.job, entry_, model_,
        {name(outcome_.status), error, num_failed_units(tree) + assembly_.num_failed_without_group()});
    set_parameters(tree, identity);
    tree.attributes.emplace_back("prompt_sha256", digest_of_sets(tree));
    tree.attributes.emplace_back("identity", identity_to_json(identity));
  }

  /// Everything into the file. What does not grow with the prompts is in the tree that comes back. A record that turns
  /// out to be damaged goes to `missing`, and there is no file: its batch is in the sums, which are gone then, so the
  /// next collector takes them up from the journal, and finds all that is missing.
  ResultTree write_file(const Stopwatch& watch, std::vector<OpenUnit>& missing) {
    ResultTree tree = outline();
    set_attributes(tree);
    ResultFileWriter writer(result_path(context_.job, entry_));
    for (auto& group : tree.groups) {
      if (!is_new_.contains(group.path)) {
        copy_group(result_path(context_.job, entry_), group, writer);
        continue;
      }
      writer.add_group(group);
      for (std::size_t s = 0; s < plan_.sets.size(); ++s) {
        if (group.path != group_of_set(plan_.sets[s].name)) continue;
        // Written, and as many as there are prompts. The summary wants to know which failed.
        for (auto& dataset : group.datasets)
          if (dataset.name != kPromptError) dataset.values = {};
        write_set(s, group, writer, missing);
        if (!missing.empty()) return tree;
      }
    }
    // First: a kill between the two must not leave results that nobody knows anything of.
    write_run_info(watch);
    writer.commit(tree.attributes);
    return tree;
  }

  /// The rows of a set: what was measured now from the journal, what earlier results have from their file, side by
  /// side.
  void write_set(std::size_t set, const Group& group, ResultFileWriter& writer, std::vector<OpenUnit>& missing) {
    std::vector<const Dataset*> copied;
    for (const Dataset& dataset : group.datasets)
      if (assembly_.copied(set).contains(dataset.name)) copied.push_back(&dataset);
    RowsReader earlier(result_path(context_.job, entry_), group, copied);
    const auto copy_until = [&](std::size_t num_rows) {
      earlier.read_until(num_rows, [&](const Dataset& dataset, std::span<const double> rows) {
        writer.write_rows(group.path, dataset.name, rows);
      });
    };
    for (std::size_t unit = 0; unit < plan_.units.size() && assembly_.has_rows(set); ++unit) {
      const BatchWork* batch = plan_.units[unit].of_batch();
      if (batch == nullptr || batch->set != set) continue;
      Record record;
      try {
        record = read(unit);
      } catch (const InputError& error) {
        return missing.push_back(missing_unit(unit, error));
      }
      assembly_.write_rows(set, batch, record, writer);
      copy_until(assembly_.num_written(set));
    }
    assembly_.write_rows(set, nullptr, {}, writer);
    copy_until(std::numeric_limits<std::size_t>::max());
  }

  void write_run_info(const Stopwatch& watch) const {
    Json info = {{"model", entry_.name},
                 {"ranks", context_.num_ranks},
                 {"num_starts", preparation_.num_starts},
                 {"units", plan_.units.size()},
                 {"collected", utc_time()},
                 {"open_s", preparation_.open_s},
                 {"collect_s", watch.elapsed_s()},
                 {"estimated_flops", plan_.total_flops()},
                 {"slurm", slurm_ids()},
                 {"versions", versions()},
                 {"checkpoint_folder", text_of_bytes(preparation_.folder.string())},
                 {"checkpoint_fingerprint", preparation_.fingerprint},
                 {"weights_sha256", digests_.sha256()},
                 {"rank_reports", Json::array()}};
    if (reduced_)
      info["reduction"] = {
          {"backend", reduced_->backend}, {"bytes", reduced_->num_bytes}, {"seconds", reduced_->seconds}};
    for (const auto& file : model_.store.files())
      info["checkpoint_files"].push_back(
          {{"path", text_of_bytes(file.path.string())}, {"size_bytes", file.size_bytes}});
    for (const auto& [key, place] : index_)
      if (key.starts_with(kReportKey))
        info["rank_reports"].push_back(Json::parse(read_journal_record(place).texts.at("report").front()));
    // The job as it was written, last and as text: it may hold 100 000 prompts.
    std::string text = info.dump(2, ' ', false, Json::error_handler_t::replace);
    text.erase(text.rfind("\n}"));
    text += ",\n  \"job\": ";
    text += context_.job.text;
    text += "\n}\n";
    write_file_atomically(run_info_path(context_.job, entry_), text);
  }

  RunContext& context_;
  const Order& order_;
  const ModelEntry& entry_;
  OpenedModel opened_;
  const Preparation& preparation_;
  const OpenModel& model_;
  ModelPlan& plan_;
  Assembly assembly_;
  JournalReader journal_;
  std::map<std::string, JournalEntry> index_;
  bool is_index_checked_ = false;
  SummedQuantities summed_;
  BatchSums sums_{summed_.shape()};
  std::optional<ReducedSums> reduced_;                    // its sums are taken
  std::vector<std::int64_t> num_done_;                    // prompts, by set
  std::map<std::size_t, std::vector<Group>> set_groups_;  // what is said of sets as wholes
  Digests digests_;
  std::set<std::string> is_new_;       // groups that are made now
  std::optional<ResultTree> earlier_;  // its large datasets are in the file still
  ModelOutcome outcome_;
};

}  // namespace

Collection collect_model(RunContext& context, const Order& order) { return Collector(context, order).collect(); }

}  // namespace spectrace
