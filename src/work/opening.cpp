#include "spectrace/work/opening.hpp"

#include <algorithm>
#include <charconv>

#include "spectrace/core/log.hpp"
#include "spectrace/core/stopwatch.hpp"
#include "spectrace/model/adapter.hpp"
#include "spectrace/plan/memory.hpp"
#include "spectrace/plan/model_load.hpp"
#include "spectrace/plan/simulation.hpp"
#include "spectrace/results/growth.hpp"
#include "spectrace/results/layout.hpp"
#include "spectrace/results/record_fit.hpp"
#include "spectrace/results/result_attributes.hpp"
#include "spectrace/work/error_of.hpp"
#include "spectrace/work/part_signature.hpp"
#include "spectrace/work/preparation.hpp"

namespace spectrace {
namespace {

namespace fs = std::filesystem;

/// What a damaged note may at most make us believe.
constexpr std::int64_t kMostStarts = 1'000'000'000;

Identity make_identity(const Job& job, const AnalysisChoice& analyses, const OpenModel& model,
                       const std::vector<PreparedSet>& sets) {
  Identity identity = identity_of(analyses, plan_options(job, model.config.json()));
  for (const auto& set : sets) add_set(identity, set.name, set.digest());
  return identity;
}

[[noreturn]] void refuse(const fs::path& where, const std::vector<std::string>& differences) {
  std::string list;
  for (const auto& line : differences) list += (list.empty() ? "" : "; ") + line;
  throw InputError(ErrorKind::usage, "'" + where.string() + "' holds results of something else", list,
                   "Give another output folder, or --fresh to compute everything anew.");
}

/// The checkpoint's tensors whose digest is another one now; reads them where the files may have changed.
/// @throws InputError (model) if they cannot be read.
std::vector<std::string> other_tensors(const OpenModel& model, const std::vector<std::string>& names,
                                       const std::vector<std::string>& digests) {
  std::vector<std::string> others;
  with_kind(ErrorKind::model, [&] {
    for (std::size_t i = 0; i < names.size(); ++i) {
      if (digests[i].empty()) continue;
      const TensorInfo* info = model.store.find(names[i]);
      if (info == nullptr || model.store.read_digest(*info) != digests[i]) others.push_back(names[i]);
    }
  });
  return others;
}

std::string noted_fingerprint(const fs::path& run_info) {
  std::error_code error;
  if (!fs::exists(run_info, error)) return "";
  try {
    return JsonNode::parse_file(run_info, ErrorKind::io).get_string("checkpoint_fingerprint", "");
  } catch (const InputError&) {
    return "";  // a note, nothing more: the checkpoint is read instead
  }
}

/// Results that are there must be of this checkpoint, these prompts and options.
void expect_same(const Job& job, const ModelEntry& entry, const OpenModel& model, const ResultTree& earlier,
                 const Identity& now) {
  const fs::path path = result_path(job, entry);
  const Identity before = identity_from_json(text_attribute(earlier, "identity"));
  auto differences = identity_differences(with_versions(before, analyses_in(earlier)), now);
  const Group* checkpoint = earlier.find(kCheckpointGroup);
  if (checkpoint != nullptr && noted_fingerprint(run_info_path(job, entry)) != model.store.fingerprint()) {
    log_info(
        "{}: the checkpoint's files are not those that the results were made of, or were touched since; reading "
        "them to compare",
        entry.name);
    const auto& names = std::get<std::vector<std::string>>(checkpoint->find_dimension(kTensor)->values);
    const auto& digests = std::get<std::vector<std::string>>(checkpoint->find(kDigest)->values);
    const auto others = other_tensors(model, names, digests);
    if (!others.empty())
      differences.push_back("weights: " + std::to_string(others.size()) + " of " + std::to_string(names.size()) +
                            " tensors were others, the first is '" + others.front() + "'");
  }
  if (!differences.empty()) refuse(path, differences);
}

/// The unit and layer of the key "<unit's key>@<next layer>" of a batch in the middle.
std::optional<std::pair<std::string, std::int64_t>> state_key(const std::string& key) {
  const auto at = key.rfind('@');
  std::int64_t layer = 0;
  if (at == std::string::npos) return std::nullopt;
  const char* const end = key.data() + key.size();
  const auto read = std::from_chars(key.data() + at + 1, end, layer);
  if (read.ec != std::errc() || read.ptr != end) return std::nullopt;
  return std::pair{key.substr(0, at), layer};
}

constexpr const char* kOtherWeights = "the checkpoint's weights have changed since the last start";

/// Why a record is not what this program leaves under the key; empty if it is.
std::string find_misfit_under(const std::string& key, const Record& record,
                              const std::map<std::string, const Unit*>& units, const ModelDescription& model,
                              const ModelPlan& plan, Slicing slicing) {
  if (std::string misfit = find_misfit(record, key); !misfit.empty()) return misfit;
  if (const auto unit = units.find(key); unit != units.end())
    return find_misfit(record, *unit->second, model, plan, slicing);
  if (const auto state = state_key(key))
    if (const auto unit = units.find(state->first); unit != units.end())
      return find_state_misfit(record, *unit->second, model, plan);
  return "";
}

/// Why the journal's records cannot be taken up: one is not what this program leaves there, or was made of other
/// weights than lie there now. Files that are others than they were count only by what was read of them.
/// @throws InputError (io) if the journal cannot be read, (model) if the checkpoint cannot.
std::string find_other_journal(const RunContext& context, const OpenModel& model, const ModelPlan& plan,
                               const std::map<std::string, JournalEntry>& index) {
  std::map<std::string, const Unit*> units;
  for (const auto& unit : plan.units) units.emplace(unit.key, &unit);
  std::map<std::string, std::string> digests;
  JournalReader journal;
  for (const auto& [key, entry] : index) {
    const Record record = journal.read(entry);
    const std::string misfit = find_misfit_under(key, record, units, model.description, plan, context.job.slicing);
    if (!misfit.empty()) return "the record '" + key + "' was not written by this version: " + misfit;
    if (entry.failed || key.starts_with(kReportKey)) continue;
    if (record.texts.at("fingerprint").front() == model.store.fingerprint()) continue;
    const auto unit = units.find(key);
    const RowsWork* rows = unit == units.end() ? nullptr : unit->second->of_rows();
    if (rows != nullptr && rows->is_part &&
        !with_kind(ErrorKind::model, [&] { return is_made_of(record, model, *rows); }))
      return kOtherWeights;
    const auto& names = record.texts.at("tensors");
    const auto& values = record.texts.at("digests");
    for (std::size_t i = 0; i < names.size(); ++i)
      if (digests.try_emplace(names[i], values[i]).first->second != values[i]) return kOtherWeights;
  }
  std::vector<std::string> names, values;
  for (const auto& [tensor, digest] : digests) {
    names.push_back(tensor);
    values.push_back(digest);
  }
  return other_tensors(model, names, values).empty() ? "" : kOtherWeights;
}

/// Units that the journal holds are left out.
Opening take_off_journalled(const RunContext& context, const ModelEntry& entry, const OpenModel& model,
                            const ModelPlan& plan, Preparation& preparation) {
  auto index = read_journal_index(journal_folder(context.job, entry));
  const std::string other = find_other_journal(context, model, plan, index);
  if (!other.empty()) {
    log_warning("{}: {}; everything is computed again", entry.name, other);
    remove_journal(journal_folder(context.job, entry));
    index.clear();
  }
  std::map<std::string, std::int64_t> furthest;
  for (const auto& [key, place] : index)
    if (const auto state = state_key(key)) {
      if (state->second < 1 || state->second >= model.description.num_layers) continue;
      auto& layer = furthest[state->first];
      if (state->second < layer) continue;
      layer = state->second;
      preparation.states[state->first] = {place, layer};
    }
  Opening opening;
  for (std::size_t unit = 0; unit < plan.units.size(); ++unit) {
    const auto found = index.find(plan.units[unit].key);
    if (found == index.end() || found->second.failed) {
      opening.units.push_back({unit, plan.units[unit].flops, 0});
    } else {
      ++opening.num_journalled;
      opening.journalled_flops += plan.units[unit].flops;
      preparation.states.erase(plan.units[unit].key);
    }
  }
  return opening;
}

void warn_of_impossible(const ModelEntry& entry, const Job& job, const ModelDescription& model) {
  for (const Chosen& chosen : job.analyses)
    if (const std::string why = chosen.analysis->lacks(model); !why.empty())
      log_warning("{}: {} is not computed: {}", entry.name, chosen.name(), why);
}

/// A config that says less than the checkpoint holds measures another model than was meant.
void warn_of_unused_tensors(const ModelEntry& entry, const OpenModel& model) {
  if (model.refusal) return;  // nothing says what is used
  const auto unused = unused_tensors(model.description, model.store);
  if (unused.empty()) return;
  log_warning(
      "{}: {} of the checkpoint's tensors are not used, the first is '{}'. Does config.json belong to it (number of "
      "layers, biases)? 'spectrace inspect' lists them.",
      entry.name, unused.size(), shown_text(unused.front()));
}

/// Stages, and what planning expects of the units that are left.
void expect(const RunContext& context, const OpenModel& model, const ModelPlan& plan, const MemoryNeed& need,
            Opening& opening) {
  const MachineProfile profile = read_machine_profile(default_profile_path());
  const std::string key = rates_key(model.description, context.job, context.num_threads);
  opening.is_calibrated = profile.is_measured(key);
  ModelLoad load =
      model_load(model, plan, context.job, context.memory_bytes, profile.rates_of(key, context.num_threads));
  opening.stages = stages_of(context.job, load, context.job.models.size(), context.num_ranks, profile);
  std::vector<Unit> left;
  std::vector<std::int64_t> under_way;
  const double read_bytes_per_s = profile.read_bytes_per_s_of(load.rates, context.num_ranks);
  for (auto& unit : opening.units) {
    unit.seconds = group_seconds(load, load.units[unit.unit], opening.stages, read_bytes_per_s);
    unit.is_undivided = load.units[unit.unit].is_undivided();
    left.push_back(load.units[unit.unit]);
    under_way.push_back(load.bytes_under_way[unit.unit]);
  }
  load.units = std::move(left);
  load.bytes_under_way = std::move(under_way);
  load.stages = opening.stages;
  const SimulatedSweep sweep = simulate_sweep({load}, context.num_ranks, profile, /*with_details=*/true);
  for (std::size_t rank = 0; rank < sweep.ranks.size(); ++rank) {
    opening.expected_s += sweep.ranks[rank].busy_s;
    opening.expected_bytes = std::max(opening.expected_bytes, peak_bytes(need, load, sweep.ranks[rank]));
  }
}

/// What an earlier start noted, if one did.
void go_on_from_start_before(const RunContext& context, const ModelEntry& entry, Preparation& preparation) {
  std::error_code error;
  if (!fs::exists(preparation_path(context.job, entry), error)) return;
  try {
    const Preparation before = Preparation::read(context, entry);
    preparation.num_starts = std::clamp<std::int64_t>(before.num_starts, 0, kMostStarts) + 1;
    preparation.fresh = before.fresh;
  } catch (const InputError& damaged) {
    log_warning("{}: {} ({}); it is made anew", entry.name, damaged.problem(), damaged.why());
  }
}

void warn_of_memory(const ModelEntry& entry, const MemoryNeed& need, std::int64_t limit_bytes) {
  if (need.least() <= limit_bytes) return;
  log_warning(
      "{}: a rank needs about {:.2f} GiB for it, and may use {:.2f} GiB. Fewer ranks a host, a larger "
      "--max-memory or smaller tokens_per_batch would do.",
      entry.name, static_cast<double>(need.least()) / (1 << 30), static_cast<double>(limit_bytes) / (1 << 30));
}

}  // namespace

void expect_fitting_results(const Job& job, const ModelEntry& entry, const OpenModel& model,
                            const std::vector<PreparedSet>& sets) {
  if (const auto earlier = read_earlier_results(job, entry, WrongDigest::unasked))
    expect_same(job, entry, model, *earlier, make_identity(job, job.analyses.possible(model.description), model, sets));
}

Opening open_for_work(const RunContext& context, const ModelEntry& entry) {
  const Stopwatch watch;
  const Job& job = context.job;
  // A checkpoint that cannot be read is this model's failure, not the run's.
  std::vector<PreparedSet> sets;
  const OpenModel model = with_kind(ErrorKind::model, [&] {
    OpenModel opened = open_model(entry, job, context.io);
    if (job.analyses.possible(opened.description).any_of_prompts()) sets = prepare_prompts(opened, job.sets_of(entry));
    return opened;
  });
  const AnalysisChoice analyses = job.analyses.possible(model.description);
  const std::vector<std::string> warnings = tokenizer_warnings(sets);
  Preparation preparation;
  preparation.folder = model.folder;
  preparation.fingerprint = model.store.fingerprint();
  preparation.identity = make_identity(job, analyses, model, sets);

  expect_room_for_results(job, entry);
  if (context.fresh) {
    drop_journal(context, entry);
    preparation.fresh = true;
  } else {
    go_on_from_start_before(context, entry, preparation);
  }
  auto earlier = preparation.fresh ? std::nullopt : read_earlier_results(job, entry, WrongDigest::unasked);
  if (earlier) {
    expect_same(job, entry, model, *earlier, preparation.identity);
    preparation.lack = find_lack(*earlier, analyses, job.keep, std::move(sets));
    if (preparation.lack.empty()) return {.complete = true, .finished = std::move(earlier)};
    // What is built upon must be whole; better asked now than after the work.
    read_earlier_results(job, entry, WrongDigest::refused);
  } else {
    preparation.lack = everything(analyses, std::move(sets));
  }
  if (!model.problems.empty())
    log_warning("{}: {} What does not need them is computed.", entry.name,
                source_error(model.description, model.store, model.problems).what());
  for (const std::string& warning : model.description.warnings) log_warning("{}: {}", entry.name, warning);
  warn_of_impossible(entry, job, model.description);
  warn_of_unused_tensors(entry, model);
  for (const auto& warning : model.store.warnings()) log_warning("{}: {}", entry.name, warning);
  for (const auto& warning : warnings) log_warning("{}: tokenizer: {}", entry.name, warning);
  ModelPlan plan = plan_of(job, model, std::move(preparation.lack));
  const MemoryNeed need = memory_need(model.description, plan, job);
  warn_of_memory(entry, need, context.memory_bytes);
  Opening opening = take_off_journalled(context, entry, model, plan, preparation);
  expect(context, model, plan, need, opening);
  opening.sums = SummedQuantities(model.description, plan, job.slicing).shape();
  preparation.lack = {plan.of_weights, std::move(plan.sets)};
  preparation.open_s = watch.elapsed_s();
  preparation.write(context, entry);
  return opening;
}

}  // namespace spectrace
