#include "spectrace/work/collector.hpp"

#include <algorithm>
#include <map>
#include <set>

#include "spectrace/checkpoint/tensor_digests.hpp"
#include "spectrace/core/file.hpp"
#include "spectrace/core/hash.hpp"
#include "spectrace/core/log.hpp"
#include "spectrace/core/stage_times.hpp"
#include "spectrace/core/stopwatch.hpp"
#include "spectrace/plan/machine_profile.hpp"
#include "spectrace/results/assemble.hpp"
#include "spectrace/results/record_fit.hpp"
#include "spectrace/results/result_attributes.hpp"
#include "spectrace/results/statistics.hpp"
#include "spectrace/store/journal.hpp"
#include "spectrace/store/result_file.hpp"
#include "spectrace/work/error_of.hpp"
#include "spectrace/work/part_signature.hpp"
#include "spectrace/work/preparation.hpp"
#include "spectrace/work/run_info.hpp"

namespace spectrace {
namespace {

namespace fs = std::filesystem;

PromptAnalyses prompt_analyses(const Job& job, const AnalysisChoice& analyses) {
  return {analyses.attention, analyses.sheaf, analyses.residual, job.graph_eigenvalues, job.beta.values()};
}

/// Digests of the tensors that results are made of, by name.
class Digests {
 public:
  void add(const std::vector<std::string>& names, const std::vector<std::string>& digests) {
    for (std::size_t i = 0; i < names.size(); ++i) {
      const auto [place, is_new] = digests_.try_emplace(names[i], digests[i]);
      if (!is_new && place->second != digests[i]) others_.insert(names[i]);
    }
  }
  void add(const ResultTree& earlier) {
    const Group* group = earlier.find("/checkpoint");
    if (group == nullptr) return;
    add(std::get<std::vector<std::string>>(group->find_dimension("tensor")->values),
        std::get<std::vector<std::string>>(group->find("digest")->values));
  }
  void add_other(const std::string& name) { others_.insert(name); }
  /// Tensors that were not the same everywhere.
  const std::set<std::string>& others() const { return others_; }

  Group group() const {
    std::vector<std::string> names, values;
    for (const auto& [name, digest] : digests_) {
      names.push_back(name);
      values.push_back(digest);
    }
    Group group;
    group.path = "/checkpoint";
    const DatasetSpec dimension = dimension_spec("tensor"), &digest = checkpoint_schema().front();
    group.dimensions.push_back({"tensor", std::move(names), dimension.units, dimension.long_name});
    group.datasets.push_back({digest.name, digest.dims, digest.units, digest.long_name, std::move(values)});
    return group;
  }
  std::string sha256() const {
    std::string all;
    for (const auto& [name, digest] : digests_) all += digest_lines(name, digest);
    return sha256_hex(all);
  }

 private:
  std::map<std::string, std::string> digests_;
  std::set<std::string> others_;
};

/// The unembedding of the parts that the ranks did.
class UnembeddingJoin {
 public:
  explicit UnembeddingJoin(const OpenModel& model)
      : shape_(model.description.embedding.unembedding.canonical_shape()), parts_(shape_[1]), digests_(model) {}

  /// @throws InputError (io) if the record is not what a rank left of this part. False if it is not of the same tensor
  /// as those before.
  [[nodiscard]] bool add(std::size_t unit, const Record& record, const Unit& part) {
    if (!UnembeddingParts::fits(record, part.rows, shape_[1]))
      throw InputError(ErrorKind::io, part.key + " in the journal is no part of the unembedding");
    units_.push_back(unit);
    if (!digests_.add(record, part)) return false;
    const StageTimer timer(Stage::unembedding);
    if (!error_) error_ = error_of("the unembedding", [&] { parts_.add(record); });
    return true;
  }
  /// Parts that were added.
  const std::vector<std::size_t>& units() const { return units_; }

  /// The results of all parts, with the error that finding them had.
  Record finish() {
    const StageTimer timer(Stage::unembedding);
    Record record;
    if (!error_) error_ = error_of("the unembedding", [&] { record = parts_.finish(); });
    if (error_) {
      record = Record();
      record.error = *error_;
    } else {
      count_flops(Stage::unembedding, unembedding_join_flops(shape_[0], shape_[1]));
    }
    return record;
  }
  std::optional<std::string> digest() const { return digests_.digest(); }

 private:
  std::vector<std::int64_t> shape_;
  UnembeddingParts parts_;
  PartDigests digests_;
  std::vector<std::size_t> units_;
  std::optional<std::string> error_;
};

/// A group of the file `from` once more, in the way in which it was written first: the same bytes.
void copy_group(const fs::path& from, Group group, ResultFileWriter& writer) {
  std::vector<const Dataset*> in_rows;
  for (auto& dataset : group.datasets) {
    auto* const values = std::get_if<std::vector<double>>(&dataset.values);
    if (values == nullptr) continue;
    if (!dataset.dims.empty() && dataset.dims.front() == "prompt") {
      dataset.in_rows = true;
      values->clear();
      in_rows.push_back(&dataset);
    } else if (dataset.in_rows) {  // it was left in the file because it is large; whoever computed it had it whole
      read_rows(from, group, {&dataset}, [&](const Dataset&, std::span<const double> rows) {
        values->insert(values->end(), rows.begin(), rows.end());
      });
      dataset.in_rows = false;
    }
  }
  writer.add_group(group);
  read_rows(from, group, in_rows, [&](const Dataset& dataset, std::span<const double> rows) {
    writer.write_rows(group.path, dataset.name, rows);
  });
}

class Collector {
 public:
  Collector(const RunContext& context, const ModelEntry& entry)
      : context_(context),
        entry_(entry),
        preparation_(Preparation::read(context, entry)),
        model_(with_kind(ErrorKind::model, [&] { return open_model_folder(preparation_.folder, context.io); })),
        plan_(plan_of(context.job, model_, std::move(preparation_.sets), preparation_.analyses)),
        analyses_(prompt_analyses(context.job, plan_.analyses)),
        assembly_(model_.description, plan_, context.job.slicing, analyses_, context.job.keep) {
    // The assembly has them now.
    for (auto& set : plan_.sets)
      for (auto& prompt : set.prompts) prompt.token_ids = {};
    for (std::size_t s = 0; s < plan_.sets.size(); ++s)
      for (const auto* quantity : quantities_of(analyses_))
        if (quantity->has_statistics) sums_[s].emplace_back(quantity, StatisticsSums(num_slots(quantity->dataset)));
  }

  Collection collect(const std::vector<std::string>& journal_files) {
    const Stopwatch watch;
    const auto index = read_journal_index(journal_folder(context_.job, entry_), journal_files);
    Collection collection;
    collection.again = add_units(index);
    if (!collection.again.empty()) {
      log_warning("{}: {} of {} finished units are no longer in the journal; they are done again", entry_.name,
                  collection.again.size(), plan_.units.size());
      return collection;
    }
    if (!preparation_.fresh)
      if (auto earlier = read_earlier_results(context_.job, entry_, WrongDigest::refused))
        earlier_ = std::move(earlier->tree);
    if (earlier_) digests_.add(*earlier_);
    if (!digests_.others().empty()) {
      drop_journal(context_, entry_, journal_files);
      return unopened_model(
          context_, entry_,
          {ModelStatus::failed, "tensor '" + *digests_.others().begin() +
                                    "' was not the same for all ranks, or changed during the run. Let "
                                    "nobody write to the checkpoint, and run the same command again."});
    }
    // First: a kill between the two must not leave results that nobody knows anything of.
    write_run_info(index, watch);
    const ResultTree small = write_file(index);
    // Else the next start goes on from what was done.
    if (assembly_.num_units_done() == static_cast<std::int64_t>(plan_.units.size()))
      drop_finished_journal(context_, entry_, journal_files);
    collection.outcome = outcome_;
    collection.rows = summarize(context_.job, entry_, outcome_, &small);
    return collection;
  }

 private:
  std::int64_t num_slots(const DatasetSpec& spec) const {
    std::int64_t slots = 1;
    for (const std::int64_t size :
         slot_shape(spec, model_.description, static_cast<std::int64_t>(analyses_.beta.size()), 0))
      slots *= size;
    return slots;
  }

  /// Takes up every record, except what prompts' records hold by prompt: that is read again when it is written. Units
  /// whose records are not there.
  std::vector<OpenUnit> add_units(const std::map<std::string, JournalEntry>& index) {
    std::vector<OpenUnit> missing;
    std::optional<UnembeddingJoin> join;
    for (std::size_t unit = 0; unit < plan_.units.size(); ++unit) {
      // Before the statistics need memory.
      if (join && plan_.units[unit].kind != UnitKind::unembedding) finish_unembedding(join);
      const auto place = index.find(plan_.units[unit].key);
      try {
        if (place == index.end()) throw InputError(ErrorKind::io, plan_.units[unit].key + " is not in the journal");
        const Record record = journal_.read(place->second);
        if (record.error.empty() && is_part(plan_.units[unit], model_.description)) {
          if (!join) join.emplace(model_);
          if (!join->add(unit, record, plan_.units[unit]))
            digests_.add_other(model_.description.embedding.unembedding.tensor);
          continue;
        }
        if (record.error.empty()) {
          digests_.add(record.texts.at("tensors"), record.texts.at("digests"));
          if (plan_.units[unit].kind == UnitKind::prompts) add_to_sums(plan_.units[unit], record);
        }
        assembly_.add(unit, record);
      } catch (const InputError& error) {
        log_warning("{}: {}", entry_.name, error.what());
        missing.push_back({unit, plan_.units[unit].flops, WorkRates().seconds_of(plan_.units[unit])});
      }
    }
    if (join) finish_unembedding(join);
    return missing;
  }

  /// Parts without the others are done, but no results.
  void finish_unembedding(std::optional<UnembeddingJoin>& join) {
    const auto& tensor = model_.description.embedding.unembedding.tensor;
    Record whole;
    if (const auto digest = join->digest(); digest && !digests_.others().contains(tensor)) {
      whole = join->finish();
      if (whole.error.empty()) {
        digests_.add({tensor}, {*digest});
        assembly_.add_unembedding(whole);
      }
    }
    Record part;
    part.error = whole.error;
    for (const std::size_t unit : join->units()) assembly_.add(unit, part);
    join.reset();
  }

  void add_to_sums(const Unit& unit, const Record& record) {
    num_done_[unit.set] += static_cast<std::int64_t>(unit.prompts.size());
    for (auto& [quantity, sums] : sums_.at(unit.set)) {
      if (quantity->dataset.name == "free_energy")
        for_each_free_energy(record.arrays.at("log_partition"), analyses_.beta,
                             [&sums = sums](const Array& energy) { sums.add(energy); });
      else
        sums.add(record.arrays.at(quantity->dataset.name));
    }
  }

  /// Everything into the file, in the contract's order. What does not grow with the prompts is in the tree that comes
  /// back.
  ResultTree write_file(const std::map<std::string, JournalEntry>& index) {
    ResultTree outline;  // which groups there will be, and the small ones
    outline.groups = assembly_.take_weights();
    for (std::size_t s = 0; s < plan_.sets.size(); ++s) {
      outline.groups.push_back(assembly_.take_set_group(s));
      for (const auto& [quantity, sums] : sums_[s])
        assembly_.add_statistics(s, quantity->dataset.name,
                                 sums.finish(static_cast<std::int64_t>(plan_.sets[s].prompts.size()) - num_done_[s]));
      outline.groups.push_back(assembly_.take_statistics(s));
      sums_[s].clear();
    }
    outline.groups.push_back(digests_.group());
    const std::size_t num_new = outline.groups.size();
    std::set<std::string> is_new;
    for (std::size_t g = 0; g < num_new; ++g) is_new.insert(outline.groups[g].path);
    if (earlier_) add_earlier_groups(*earlier_, outline);
    order_groups(context_.job, outline);
    set_effective_amplification(outline);

    std::string error;
    for (const auto& line : assembly_.errors()) error += (error.empty() ? "" : "\n") + line;
    const bool any_done = assembly_.num_units_done() > 0 || earlier_;
    outcome_ = {error.empty() ? ModelStatus::ok : any_done ? ModelStatus::partial : ModelStatus::failed, error};
    const auto num_failed = static_cast<std::int64_t>(plan_.units.size()) - assembly_.num_units_done();
    const Identity identity = merged_identity(earlier_, preparation_.identity);
    outline.attributes = result_attributes(context_.job, entry_, model_, {name(outcome_.status), error, num_failed});
    set_parameters(outline, identity);
    outline.attributes.emplace_back("prompt_sha256", preparation_.prompt_sha256);
    outline.attributes.emplace_back("identity", identity_to_json(identity));

    ResultFileWriter writer(result_path(context_.job, entry_));
    for (auto& group : outline.groups) {
      if (!is_new.contains(group.path)) {
        copy_group(result_path(context_.job, entry_), group, writer);
        continue;
      }
      writer.add_group(group);
      for (std::size_t s = 0; s < plan_.sets.size(); ++s) {
        if (group.path != "/prompts/" + plan_.sets[s].name) continue;
        // Written, and as many as there are prompts. The summary wants to know which failed.
        for (auto& dataset : group.datasets)
          if (dataset.name != "prompt_error") dataset.values = {};
        write_set(s, index, writer);
      }
    }
    writer.commit(outline.attributes);
    return outline;
  }

  void write_set(std::size_t set, const std::map<std::string, JournalEntry>& index, ResultFileWriter& writer) {
    for (const auto& unit : plan_.units)
      if (unit.kind == UnitKind::prompts && unit.set == set)
        assembly_.write_rows(set, &unit, journal_.read(index.at(unit.key)), writer);
    assembly_.write_rows(set, nullptr, {}, writer);
  }

  void write_run_info(const std::map<std::string, JournalEntry>& index, const Stopwatch& watch) const {
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
    for (const auto& file : model_.store.files())
      info["checkpoint_files"].push_back(
          {{"path", text_of_bytes(file.path.string())}, {"size_bytes", file.size_bytes}});
    for (const auto& [key, place] : index)
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

  const RunContext& context_;
  const ModelEntry& entry_;
  Preparation preparation_;
  OpenModel model_;
  ModelPlan plan_;
  PromptAnalyses analyses_;
  Assembly assembly_;
  JournalReader journal_;
  std::map<std::size_t, std::vector<std::pair<const PromptQuantity*, StatisticsSums>>> sums_;  // by set
  std::map<std::size_t, std::int64_t> num_done_;                                               // prompts, by set
  Digests digests_;
  std::optional<ResultTree> earlier_;  // its large datasets are in the file still
  ModelOutcome outcome_;
};

/// What describes a model and decides no number.
bool is_description(const std::string& attribute) {
  static const std::set<std::string> names = {"lab", "expected", "revision", "step", "meta"};
  return names.contains(attribute);
}

/// The file with the job's description of the model, if it has another one. True if it had.
bool update_description(const RunContext& context, const ModelEntry& entry, ResultTree& tree) {
  const Attributes in_order = failed_attributes(context.job, entry, "");
  Attributes now, before, kept;
  for (const auto& attribute : in_order)
    if (is_description(attribute.first)) now.push_back(attribute);
  for (const auto& attribute : tree.attributes) (is_description(attribute.first) ? before : kept).push_back(attribute);
  if (before == now) return false;
  // Each behind the one that it follows in a file that is made at once: so the bytes are the same.
  for (std::size_t i = 1; i < in_order.size(); ++i) {
    if (!is_description(in_order[i].first)) continue;
    const auto previous = std::find_if(kept.begin(), kept.end(),
                                       [&](const auto& attribute) { return attribute.first == in_order[i - 1].first; });
    kept.insert(previous == kept.end() ? previous : previous + 1, in_order[i]);
  }
  tree.attributes = std::move(kept);
  ResultFileWriter writer(result_path(context.job, entry));
  for (const auto& group : tree.groups) copy_group(result_path(context.job, entry), group, writer);
  writer.commit(tree.attributes);
  return true;
}

}  // namespace

Collection collect_model(const RunContext& context, const ModelEntry& entry,
                         const std::vector<std::string>& journal_files) {
  return Collector(context, entry).collect(journal_files);
}

Collection finished_model(const RunContext& context, const ModelEntry& entry, EarlierResults results) {
  ResultTree tree = results.is_whole
                        ? std::move(results.tree)
                        : read_result_file(result_path(context.job, entry), WrongDigest::unasked, kMostValuesInMemory);
  if (update_description(context, entry, tree)) log_info("{}: its description is brought up to date", entry.name);
  drop_finished_journal(context, entry);
  const bool is_ok = text_attribute(tree, "status") == name(ModelStatus::ok);
  Collection collection;
  collection.outcome = {is_ok ? ModelStatus::ok : ModelStatus::partial, text_attribute(tree, "error")};
  collection.rows = summarize(context.job, entry, collection.outcome, &tree);
  return collection;
}

Collection unopened_model(const RunContext& context, const ModelEntry& entry, const ModelOutcome& outcome) {
  Collection collection;
  collection.outcome = outcome;
  std::optional<ResultTree> there;
  bool is_in_the_way = false;  // what cannot be read is somebody's to look at, not ours to write over
  std::error_code error;
  try {
    if (fs::exists(result_path(context.job, entry), error))
      there = read_result_file(result_path(context.job, entry), WrongDigest::unasked, kMostValuesInMemory);
  } catch (const InputError& unreadable) {
    is_in_the_way = true;
    log_warning("{}: '{}' is left as it is: {}", entry.name, result_path(context.job, entry).string(),
                unreadable.why());
  }
  const bool is_good = there && !there->groups.empty();
  if (outcome.status == ModelStatus::failed) {
    if (is_good) {
      log_warning("'{}' keeps the results of an earlier run", result_path(context.job, entry).string());
    } else if (!is_in_the_way) {
      ResultTree tree;
      tree.attributes = failed_attributes(context.job, entry, outcome.error);
      write_result_file(result_path(context.job, entry), tree);
    }
  }
  collection.rows = summarize(context.job, entry, outcome, is_good ? &*there : nullptr);
  return collection;
}

}  // namespace spectrace
