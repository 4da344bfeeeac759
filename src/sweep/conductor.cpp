#include "spectrace/sweep/conductor.hpp"

#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <thread>

#include "spectrace/comm/launch.hpp"
#include "spectrace/core/awake_time.hpp"
#include "spectrace/core/log.hpp"
#include "spectrace/core/stopwatch.hpp"
#include "spectrace/numerics/tensor.hpp"
#include "spectrace/sweep/folder_lock.hpp"
#include "spectrace/sweep/progress.hpp"
#include "spectrace/sweep/run_job.hpp"
#include "spectrace/work/worker.hpp"

// What ranks say to each other, as JSON:
//   to root:   {"say": "ready" | "report" | "alive" | "stop" | "fatal" | "left", ...}
//   from root: {"say": "do" | "alive" | "stop" | "leave", ...}

namespace spectrace {
namespace {

constexpr int kToRoot = 301, kFromRoot = 302;
constexpr double kAlivePeriod_s = 1.0;
constexpr auto kPollPeriod = std::chrono::milliseconds(1);

Json error_to_json(const InputError& error) {
  return {static_cast<int>(error.kind()), error.problem(), error.why(), error.suggestion()};
}
InputError error_from_json(const Json& json) {
  return InputError(static_cast<ErrorKind>(json.at(0).get<int>()), json.at(1), json.at(2), json.at(3));
}

std::string to_bytes(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

/// The thread that computes. Everything it uses is kept alive by its own share of it.
class ComputeThread {
 public:
  explicit ComputeThread(std::shared_ptr<RunContext> context) : shared_(std::make_shared<Shared>()) {
    std::thread([context = std::move(context), shared = shared_] { serve(*context, *shared); }).detach();
  }
  /// @pre it is idle, or abandoned.
  ~ComputeThread() {
    push(std::nullopt);
    if (!is_idle()) return;
    std::unique_lock lock(shared_->mutex);
    shared_->changed.wait(lock, [&] { return shared_->ended; });
  }
  ComputeThread(const ComputeThread&) = delete;
  ComputeThread& operator=(const ComputeThread&) = delete;

  void give(Order order) { push(std::move(order)); }
  bool is_idle() const {
    const std::lock_guard lock(shared_->mutex);
    return !shared_->busy;
  }
  /// What came of the last order, once.
  std::optional<Json> take_report() {
    const std::lock_guard lock(shared_->mutex);
    return std::exchange(shared_->report, std::nullopt);
  }

 private:
  struct Shared {
    std::mutex mutex;
    std::condition_variable changed;
    std::deque<std::optional<Order>> queue;
    std::optional<Json> report;
    bool busy = false, ended = false;
  };

  void push(std::optional<Order> order) {
    const std::lock_guard lock(shared_->mutex);
    if (order) shared_->busy = true;
    shared_->queue.push_back(std::move(order));
    shared_->changed.notify_all();
  }

  static Json run(Worker& worker, const Order& order) {
    try {
      return {{"say", "report"}, {"result", worker.run(order)}};
    } catch (const InputError& error) {
      return {{"say", "fatal"}, {"error", error_to_json(error)}};
    } catch (const std::exception& error) {
      return {
          {"say", "fatal"},
          {"error", error_to_json(InputError(ErrorKind::io, error.what(), "a bug in spectrace, or out of memory"))}};
    }
  }

  static void serve(RunContext& context, Shared& shared) {
    set_compute_threads(context.num_threads);
    {
      Worker worker(context);
      for (;;) {
        std::unique_lock lock(shared.mutex);
        shared.changed.wait(lock, [&] { return !shared.queue.empty(); });
        const auto order = std::move(shared.queue.front());
        shared.queue.pop_front();
        lock.unlock();
        if (!order) break;
        Json report = run(worker, *order);
        lock.lock();
        shared.report = std::move(report);
        shared.busy = false;
        shared.changed.notify_all();
      }
    }
    set_compute_threads(1);
    const std::lock_guard lock(shared.mutex);
    shared.ended = true;
    shared.changed.notify_all();
  }

  std::shared_ptr<Shared> shared_;
};

/// Root's part: hands out, hears reports, notices silence, says when to leave.
class Root {
 public:
  Root(const RunContext& context, Communicator& communicator, const Patience& patience, const AwakeTime& awake,
       FolderLock* lock)
      : context_(context),
        communicator_(communicator),
        patience_(patience),
        awake_(awake),
        scheduler_(context.job.models.size(), communicator.size()),
        outcomes_(context.job.models.size()),
        rows_(context.job.models.size()),
        ranks_(static_cast<std::size_t>(communicator.size())),
        lock_(lock),
        display_(context.job.output / "progress.json") {
    display_.write(state());
  }

  void step() {
    if (!lock_->heartbeat())
      end_at_once("another run has taken '" + context_.job.output.string() + "' while this one stood still");
    while (auto message = communicator_.try_receive(kToRoot)) hear(message->source, Json::parse(message->bytes));
    if (!leaving_) {
      if (!stopping_) hand_out();
      const bool all_idle = std::none_of(ranks_.begin(), ranks_.end(), [](const Rank& r) { return r.busy; });
      const bool out_of_time = stopping_ && since_stop_.elapsed_s() > patience_.stop_s;
      if ((stopping_ && (all_idle || out_of_time)) || scheduler_.all_done()) leave();
    }
    notice_silence();
    if (!leaving_) display_.update(state());
  }

  int exit_code() const {
    if (fatal_) return kNothingReadOrWritten;
    if (stopping_ && !scheduler_.all_done()) return kStopped;
    int code = kAllDone;
    for (const auto& outcome : outcomes_) {
      if (outcome.status == ModelStatus::mismatch) return kWrongUsage;
      if (outcome.status != ModelStatus::ok) code = kSomeFailed;
    }
    return code;
  }

  bool all_have_left() const {
    return std::all_of(ranks_.begin(), ranks_.end(), [](const Rank& one) { return one.left; });
  }

  const Expectation& expected() const { return expected_; }

  std::vector<SummaryRow> take_rows() {
    std::vector<SummaryRow> all;
    for (auto& rows : rows_)
      for (auto& row : rows) all.push_back(std::move(row));
    return all;
  }

 private:
  struct Rank {
    bool ready = false, busy = false, left = false;
    double flops = 0;
    double heard_s = 0;  // AwakeTime
    Stopwatch since_given;
    std::string host;
    long pid = 0;
  };

  Rank& rank(int number) { return ranks_[static_cast<std::size_t>(number)]; }

  void say(int to, const Json& message) { communicator_.send(to, kFromRoot, to_bytes(message)); }
  void say_to_all(const Json& message) {
    for (int to = 0; to < communicator_.size(); ++to)
      if (!rank(to).left) say(to, message);
  }

  void hand_out() {
    if (!scheduler_.has_work()) return;
    for (int to = 0; to < communicator_.size(); ++to) {
      if (!rank(to).ready || rank(to).busy) continue;
      const auto assignment = scheduler_.next(to);
      if (!assignment) continue;
      Json message = {{"say", "do"},
                      {"step", static_cast<int>(assignment->step)},
                      {"model", assignment->model},
                      {"units", assignment->units},
                      {"ranks", {assignment->first_rank, assignment->num_ranks}},
                      {"is_last", assignment->is_last}};
      if (assignment->step == Step::collect) message["journal_files"] = journal_files_[assignment->model];
      for (int member = assignment->first_rank; member < assignment->first_rank + assignment->num_ranks; ++member) {
        rank(member).busy = true;
        rank(member).since_given.restart();
        say(member, message);
        given_[member] = *assignment;
      }
    }
  }

  void hear(int from, const Json& message) {
    Rank& speaker = rank(from);
    speaker.heard_s = awake_.passed_s();
    const auto& what = message.at("say").get_ref<const std::string&>();
    speaker.flops = message.value("flops", speaker.flops);
    if (what == "ready") {
      speaker.ready = true;
      speaker.host = message.at("host");
      speaker.pid = message.at("pid");
    } else if (what == "alive") {
      say(from, {{"say", "alive"}});
    } else if (what == "stop") {
      begin_stop(message.at("reason"));
    } else if (what == "report") {
      speaker.busy = false;
      hear_report(from, given_.at(from), message.at("result"));
    } else if (what == "fatal") {
      speaker.busy = false;
      display_.clear_line();
      fatal_ = message.at("error");
      log_error("{} (rank {} on {}). The run ends; what is finished is safe: run the same command again to go on.",
                error_from_json(*fatal_).what(), from, speaker.host);
      begin_stop("an error of rank " + std::to_string(from));
    } else if (what == "left") {
      speaker.left = true;
    }
  }

  static std::vector<OpenUnit> units_of(const Json& json) {
    std::vector<OpenUnit> units;
    for (const auto& unit : json)
      units.push_back(
          {unit.at(0).get<std::size_t>(), unit.at(1).get<double>(), unit.at(2).get<double>(), unit.at(3).get<bool>()});
    return units;
  }

  void hear_report(int from, const Assignment& assignment, const Json& result) {
    const std::size_t model = assignment.model;
    // After a stop only what has become of whole models still counts; the rest is in the journal.
    if (assignment.step == Step::work) {
      if (stopping_) return;
      const bool is_given_up = result.contains("given_up");
      is_given_up ? scheduler_.gave_up(from) : scheduler_.worked(from);
      if (!is_given_up) journal_files_[model].insert(result.at("journal_file").get<std::string>());
      if (is_given_up) set_outcome(model, result, watch_.elapsed_s() - started_[model]);
    } else if (assignment.step == Step::open) {
      const bool complete = result.at("complete");
      auto units = units_of(result.at("units"));
      journalled_flops_ += result.value("journalled_flops", 0.0);
      if (const auto expected = result.find("expected"); expected != result.end()) {
        expected_.busy_s += expected->at(0).get<double>();
        expected_.peak_bytes = std::max(expected_.peak_bytes, expected->at(1).get<double>());
        expected_.is_calibrated &= expected->at(2).get<bool>();
      }
      if (result.value("num_journalled", 0) > 0)
        log_info("{}: {} of {} units are in the journal already", entry(model).name,
                 result["num_journalled"].get<int>(), result["num_journalled"].get<std::size_t>() + units.size());
      scheduler_.opened(from, std::move(units), !complete, result.value("stages", 1));
      if (complete) set_outcome(model, result, 0);
    } else {
      auto again = units_of(result.at("again"));
      const bool done = again.empty();
      scheduler_.collected(from, std::move(again));
      if (done) set_outcome(model, result, watch_.elapsed_s() - started_[model]);
    }
    if (assignment.step == Step::open) started_[model] = watch_.elapsed_s() - rank(from).since_given.elapsed_s();
  }

  void set_outcome(std::size_t model, const Json& result, double elapsed_s) {
    outcomes_[model] = {static_cast<ModelStatus>(result.at("status").get<int>()), result.at("error")};
    rows_[model] = rows_from_json(result.at("rows"));
    for (auto& row : rows_[model]) row.elapsed_s = elapsed_s;
    journal_files_.erase(model);
    display_.clear_line();
    if (outcomes_[model].status != ModelStatus::ok)
      log_error("{}: {}: {}", entry(model).name, name(outcomes_[model].status), outcomes_[model].error);
    else if (result.value("was_there", false))
      log_info("{}: results are there", entry(model).name);
    else
      log_info("{}: done in {:.1f} s", entry(model).name, elapsed_s);
  }

  void begin_stop(const std::string& reason) {
    if (stopping_) return;
    stopping_ = true;
    since_stop_.restart();
    display_.clear_line();
    if (!fatal_)
      log_warning(
          "stopping because of {}: what is under way is brought to where it can be gone on from, for at most "
          "{:.0f} s",
          reason, patience_.stop_s);
    say_to_all({{"say", "stop"}});
    SweepState now = state();
    now.state = "stopping";
    display_.write(now);
  }

  void leave() {
    leaving_ = true;
    SweepState now = state();
    const int code = exit_code();
    now.state = fatal_ ? "failed" : code == kStopped ? "stopped" : code == kAllDone ? "done" : "done with errors";
    display_.clear_line();
    display_.write(now);
    say_to_all({{"say", "leave"}, {"code", code}});
  }

  void notice_silence() {
    for (int number = 0; number < communicator_.size(); ++number) {
      Rank& other = rank(number);
      if (other.left || awake_.passed_s() - other.heard_s < patience_.silence_s) continue;
      end_at_once(fmt::format(
          "rank {}{} has given no sign of life for {:.0f} s: its host or process is gone or stands still", number,
          other.host.empty() ? "" : fmt::format(" (process {} on {})", other.pid, other.host), patience_.silence_s));
    }
  }

  void end_at_once(const std::string& why) {
    log_error("{}. The run ends; what is finished is safe: run the same command again to go on.", why);
    SweepState now = state();
    now.state = "failed";
    display_.write(now);
    flush_log();
    communicator_.abort(kNothingReadOrWritten);
  }

  const ModelEntry& entry(std::size_t model) const { return context_.job.models[model]; }

  SweepState state() const {
    SweepState now;
    if (stopping_) now.state = "stopping";
    now.num_models = context_.job.models.size();
    now.num_opened = scheduler_.num_opened();
    now.num_finished = scheduler_.num_finished();
    now.known_flops = scheduler_.known_flops() + journalled_flops_;
    now.earlier_flops = journalled_flops_;
    now.done_flops = journalled_flops_;
    now.num_ranks = communicator_.size();
    for (const auto& one : ranks_) {
      now.done_flops += one.flops;
      now.num_busy += one.busy;
    }
    return now;
  }

  const RunContext& context_;
  Communicator& communicator_;
  Patience patience_;
  const AwakeTime& awake_;
  Scheduler scheduler_;
  std::vector<ModelOutcome> outcomes_;
  std::vector<std::vector<SummaryRow>> rows_;
  std::vector<Rank> ranks_;
  std::map<int, Assignment> given_;
  std::map<std::size_t, double> started_;
  std::map<std::size_t, std::set<std::string>> journal_files_;  // of the models under way: names
  double journalled_flops_ = 0;
  Expectation expected_;
  bool stopping_ = false, leaving_ = false;
  std::optional<Json> fatal_;
  Stopwatch since_stop_, watch_;
  FolderLock* lock_;
  ProgressDisplay display_;
};

/// A rank's own part.
class Rank {
 public:
  Rank(const std::shared_ptr<RunContext>& context, Communicator& communicator, const StopRequest& stop,
       const Patience& patience, const AwakeTime& awake)
      : context_(*context),
        communicator_(communicator),
        stop_(stop),
        patience_(patience),
        awake_(awake),
        compute_(context) {
    say({{"say", "ready"}, {"host", host_name()}, {"pid", ::getpid()}});
  }

  /// Carries what ranks that share layers send each other; true if there is more of it.
  bool carry() { return context_.link.carry(communicator_); }

  /// False when it is time to leave.
  bool step() {
    if (stop_.requested() && !stop_said_) {
      stop_said_ = true;
      stop_work();  // what is under way here need not wait for root's word
      say({{"say", "stop"}, {"reason", stop_.reason()}});
    }
    if (auto report = compute_.take_report()) {
      (*report)["flops"] = context_.flops_done.load();
      say(*report);
    }
    if (since_said_.elapsed_s() > kAlivePeriod_s) say({{"say", "alive"}, {"flops", context_.flops_done.load()}});
    while (const auto message = communicator_.try_receive(kFromRoot)) {
      heard_s_ = awake_.passed_s();
      if (!hear(Json::parse(message->bytes))) return false;
    }
    if (awake_.passed_s() - heard_s_ > patience_.silence_s) {
      log_error(
          "rank 0 has given no sign of life for {:.0f} s (seen by rank {} on {}). The run ends; what is finished "
          "is safe: run the same command again to go on.",
          patience_.silence_s, context_.rank, host_name());
      flush_log();
      communicator_.abort(kNothingReadOrWritten);
    }
    return true;
  }

  SweepOutcome outcome() const {
    SweepOutcome outcome;
    outcome.exit_code = code_;
    outcome.abandoned = !compute_.is_idle();
    return outcome;
  }

 private:
  void stop_work() {
    context_.stop = true;
    context_.link.stop();
  }

  void say(const Json& message) {
    since_said_.restart();
    communicator_.send(0, kToRoot, to_bytes(message));
  }

  bool hear(const Json& message) {
    const auto& what = message.at("say").get_ref<const std::string&>();
    if (what == "do") {
      compute_.give({{static_cast<Step>(message.at("step").get<int>()), message.at("model").get<std::size_t>(),
                      message.at("units").get<std::vector<std::size_t>>(), message.at("ranks").at(0).get<int>(),
                      message.at("ranks").at(1).get<int>(), message.at("is_last").get<bool>()},
                     message.value("journal_files", std::vector<std::string>())});
    } else if (what == "stop") {
      stop_work();
    } else if (what == "leave") {
      code_ = message.at("code");
      say({{"say", "left"}});
      return false;
    }
    return true;
  }

  RunContext& context_;
  Communicator& communicator_;
  const StopRequest& stop_;
  Patience patience_;
  const AwakeTime& awake_;
  ComputeThread compute_;
  bool stop_said_ = false;
  int code_ = 0;
  Stopwatch since_said_;
  double heard_s_ = 0;  // AwakeTime
};

}  // namespace

SweepOutcome conduct(const std::shared_ptr<RunContext>& context, Communicator& communicator, const StopRequest& stop,
                     const Patience& patience, FolderLock* lock) {
  AwakeTime awake;
  std::unique_ptr<Root> root;
  if (lock != nullptr) root = std::make_unique<Root>(*context, communicator, patience, awake, lock);
  Rank rank(context, communicator, stop, patience, awake);
  for (bool stay = true; stay;) {
    awake.tick();
    stay = rank.step();
    if (root) root->step();
    if (!rank.carry()) std::this_thread::sleep_for(kPollPeriod);
  }
  // Everyone has been told to leave; root hears the last words.
  if (root)
    while (!root->all_have_left()) {
      awake.tick();
      root->step();
      std::this_thread::sleep_for(kPollPeriod);
    }
  SweepOutcome outcome = rank.outcome();
  if (root) outcome.expected = root->expected();
  if (root && outcome.exit_code != kStopped) outcome.rows = root->take_rows();
  return outcome;
}

}  // namespace spectrace
