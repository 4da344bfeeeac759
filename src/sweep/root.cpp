#include "spectrace/sweep/root.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <variant>

#include "spectrace/core/log.hpp"
#include "spectrace/sweep/exit_code.hpp"

namespace spectrace {
namespace {

/// Of two kinds of report that a step may have, the one that does not end the model.
template <typename Expected>
const Expected& expect_report(const Report& report, int from, Step step) {
  const auto* expected = std::get_if<Expected>(&report);
  if (expected == nullptr)
    throw InternalError(fmt::format("rank {} sent a report that is not one of '{}'", from, name(step)));
  return *expected;
}

}  // namespace

Root::Root(const RunContext& context, Communicator& communicator, const Patience& patience, const Clock& clock,
           std::function<bool()> keeps_folder)
    : context_(context),
      communicator_(communicator),
      patience_(patience),
      clock_(clock),
      scheduler_(context.job.models.size(), communicator.size()),
      outcomes_(context.job.models.size()),
      rows_(context.job.models.size()),
      members_(static_cast<std::size_t>(communicator.size())),
      keeps_folder_(std::move(keeps_folder)),
      display_(context.job.output / "progress.json") {
  display_.write(state());
}

void Root::step() {
  if (!keeps_folder_())
    end_at_once("another run has taken '" + context_.job.output.string() + "' while this one stood still");
  while (auto message = communicator_.try_receive(kToRoot)) hear(*message);
  if (!is_leaving_) {
    if (!is_stopping_) hand_out();
    const bool all_idle = std::none_of(members_.begin(), members_.end(), [](const Member& m) { return m.is_busy; });
    const bool out_of_time = is_stopping_ && clock_.elapsed_s() - stop_began_s_ > patience_.stop_s;
    if ((is_stopping_ && (all_idle || out_of_time)) || scheduler_.all_done()) leave();
  }
  notice_silence();
  if (!is_leaving_) display_.update(state());
}

bool Root::all_have_left() const {
  return std::all_of(members_.begin(), members_.end(), [](const Member& m) { return m.has_left; });
}

int Root::exit_code() const {
  if (has_failed_) return kNothingReadOrWritten;
  if (is_stopping_ && !scheduler_.all_done()) return kStopped;
  int code = kAllDone;
  for (const auto& outcome : outcomes_) {
    if (outcome.status == ModelStatus::mismatch) return kWrongUsage;
    if (outcome.status != ModelStatus::ok) code = kSomeFailed;
  }
  return code;
}

std::vector<SummaryRow> Root::take_rows() {
  std::vector<SummaryRow> all;
  for (auto& rows : rows_)
    for (auto& row : rows) all.push_back(std::move(row));
  rows_.clear();
  return all;
}

void Root::say(int to, const from_root::Message& message) { communicator_.send(to, kFromRoot, encode(message)); }

void Root::say_to_all(const from_root::Message& message) {
  const std::string bytes = encode(message);
  for (int to = 0; to < communicator_.size(); ++to)
    if (!member(to).has_left) communicator_.send(to, kFromRoot, bytes);
}

void Root::hand_out() {
  if (!scheduler_.has_work()) return;
  for (int to = 0; to < communicator_.size(); ++to) {
    if (!member(to).is_ready || member(to).is_busy) continue;
    if (const auto assignment = scheduler_.next(to)) give(*assignment);
  }
}

/// To all who do it together; units may be thousands, so their list is written once.
void Root::give(const Assignment& assignment) {
  Order order{.assignment = assignment, .journal_files = {}};
  if (assignment.step == Step::collect) {
    const Told& told = told_[assignment.model];
    order.journal_files.assign(told.journal_files.begin(), told.journal_files.end());
    order.tensors.assign(told.tensors.begin(), told.tensors.end());
    order.sums_come = !told.sums.num_slots.empty();
    if (order.sums_come)
      say_to_all(from_root::Reduce{.model = assignment.model, .receiver = assignment.first_rank, .shape = told.sums});
  }
  const std::string bytes = encode(from_root::Do{.order = std::move(order)});
  for (int rank = assignment.first_rank; rank < assignment.first_rank + assignment.num_ranks; ++rank) {
    Member& doer = member(rank);
    doer.is_busy = true;
    doer.step = assignment.step;
    doer.model = assignment.model;
    doer.given_s = clock_.elapsed_s();
    communicator_.send(rank, kFromRoot, bytes);
  }
}

void Root::hear(const Message& message) {
  const int from = message.source;
  member(from).heard_s = clock_.awake_s();
  try {
    std::visit([&](const auto& what) { take(from, what); }, decode_to_root(message.bytes, from));
  } catch (const InternalError& error) {
    end_at_once(fmt::format("{} (this is a bug in spectrace)", error.what()));
  }
}

void Root::take(int from, const to_root::Ready& ready) {
  member(from).is_ready = true;
  member(from).host = ready.host;
  member(from).pid = ready.pid;
}

void Root::take(int from, const to_root::Alive& alive) {
  member(from).flops = alive.flops_done;
  say(from, from_root::Alive{});
}

void Root::take(int, const to_root::StopAsked& stop) { begin_stop(stop.reason); }

void Root::take(int from, const to_root::Failed& failed) {
  member(from).flops = failed.flops_done;
  member(from).is_busy = false;
  display_.clear_line();
  has_failed_ = true;
  log_error("{} (rank {} on {}). The run ends; what is finished is safe: run the same command again to go on.",
            failed.error.what(), from, member(from).host);
  begin_stop("an error of rank " + std::to_string(from));
}

void Root::take(int from, const to_root::Left&) { member(from).has_left = true; }

void Root::take(int from, const to_root::Reported& reported) {
  member(from).flops = reported.flops_done;
  if (!member(from).is_busy) throw InternalError(fmt::format("rank {} sent a report that nobody asked for", from));
  member(from).is_busy = false;
  const std::size_t model = member(from).model;
  switch (member(from).step) {
    case Step::open: return hear_opened(from, model, reported.report);
    case Step::work: return hear_worked(from, model, reported.report);
    case Step::collect: return hear_collected(from, model, reported.report);
  }
}

void Root::hear_opened(int from, std::size_t model, const Report& report) {
  if (const auto* finished = std::get_if<ModelFinished>(&report)) {
    scheduler_.opened(from, {}, /*needs_collecting=*/false);
    set_outcome(model, *finished, 0);
  } else {
    const auto& opened = expect_report<ModelOpened>(report, from, Step::open);
    note_opened(model, opened);
    scheduler_.opened(from, opened.units, /*needs_collecting=*/true, opened.stages);
  }
  started_s_[model] = member(from).given_s;
}

void Root::note_opened(std::size_t model, const ModelOpened& opened) {
  told_[model].sums = opened.sums;
  journalled_flops_ += opened.journalled_flops;
  expected_.busy_s += opened.expected.busy_s;
  expected_.peak_bytes = std::max(expected_.peak_bytes, opened.expected.peak_bytes);
  expected_.is_calibrated &= opened.expected.is_calibrated;
  if (opened.num_journalled > 0)
    log_info("{}: {} of {} units are in the journal already", entry(model).name, opened.num_journalled,
             opened.num_journalled + opened.units.size());
}

void Root::hear_worked(int from, std::size_t model, const Report& report) {
  // After a stop only what has become of whole models still counts; the rest is in the journal.
  if (is_stopping_) return;
  if (const auto* finished = std::get_if<ModelFinished>(&report)) {
    scheduler_.gave_up(from);
    set_outcome(model, *finished, since_start_s(model));
  } else {
    scheduler_.worked(from);
    const auto& worked = expect_report<UnitsWorked>(report, from, Step::work);
    told_[model].journal_files.insert(worked.journal_file);
    told_[model].tensors.insert(worked.tensors.begin(), worked.tensors.end());
  }
}

void Root::hear_collected(int from, std::size_t model, const Report& report) {
  if (const auto* finished = std::get_if<ModelFinished>(&report)) {
    scheduler_.collected(from);
    set_outcome(model, *finished, since_start_s(model));
  } else {
    scheduler_.collected(from, expect_report<RecordsMissing>(report, from, Step::collect).units);
  }
}

double Root::since_start_s(std::size_t model) const {
  const auto started = started_s_.find(model);
  return clock_.elapsed_s() - (started == started_s_.end() ? 0.0 : started->second);
}

void Root::set_outcome(std::size_t model, const ModelFinished& finished, double elapsed_s) {
  const ModelOutcome& outcome = outcomes_[model] = finished.outcome;
  rows_[model] = finished.rows;
  for (auto& row : rows_[model]) row.elapsed_s = elapsed_s;
  told_.erase(model);
  display_.clear_line();
  if (outcome.status != ModelStatus::ok)
    log_error("{}: {}: {}", entry(model).name, name(outcome.status), outcome.error);
  else if (finished.was_there)
    log_info("{}: results are there", entry(model).name);
  else
    log_info("{}: done in {:.1f} s", entry(model).name, elapsed_s);
}

void Root::begin_stop(const std::string& reason) {
  if (is_stopping_ || is_leaving_) return;
  is_stopping_ = true;
  stop_began_s_ = clock_.elapsed_s();
  display_.clear_line();
  if (!has_failed_)
    log_warning(
        "stopping because of {}: what is under way is brought to where it can be gone on from, for at most "
        "{:.0f} s",
        reason, patience_.stop_s);
  say_to_all(from_root::Stop{});
  display_.write(state());
}

void Root::leave() {
  is_leaving_ = true;
  SweepState now = state();
  const int code = exit_code();
  now.state = has_failed_ ? "failed" : code == kStopped ? "stopped" : code == kAllDone ? "done" : "done with errors";
  display_.clear_line();
  display_.write(now);
  say_to_all(from_root::Leave{.exit_code = code});
}

void Root::notice_silence() {
  for (int rank = 0; rank < communicator_.size(); ++rank) {
    const Member& other = member(rank);
    if (other.has_left || clock_.awake_s() - other.heard_s < patience_.silence_s) continue;
    end_at_once(fmt::format(
        "rank {}{} has given no sign of life for {:.0f} s: its host or process is gone or stands still", rank,
        other.host.empty() ? "" : fmt::format(" (process {} on {})", other.pid, other.host), patience_.silence_s));
  }
}

void Root::end_at_once(const std::string& why) {
  log_error("{}. The run ends; what is finished is safe: run the same command again to go on.", why);
  SweepState now = state();
  now.state = "failed";
  display_.write(now);
  flush_log();
  communicator_.abort(kNothingReadOrWritten);
}

SweepState Root::state() const {
  SweepState now;
  if (is_stopping_) now.state = "stopping";
  now.num_models = context_.job.models.size();
  now.num_opened = scheduler_.num_opened();
  now.num_finished = scheduler_.num_finished();
  now.known_flops = scheduler_.known_flops() + journalled_flops_;
  now.earlier_flops = journalled_flops_;
  now.done_flops = journalled_flops_;
  now.num_ranks = communicator_.size();
  for (const Member& rank : members_) {
    now.done_flops += rank.flops;
    now.num_busy += rank.is_busy;
  }
  return now;
}

}  // namespace spectrace
