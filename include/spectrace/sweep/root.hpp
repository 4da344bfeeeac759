#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "spectrace/comm/communicator.hpp"
#include "spectrace/plan/scheduler.hpp"
#include "spectrace/results/summary.hpp"
#include "spectrace/sweep/clock.hpp"
#include "spectrace/sweep/messages.hpp"
#include "spectrace/sweep/progress.hpp"
#include "spectrace/work/run_context.hpp"

namespace spectrace {

/// Root's part in a sweep: hands work out, hears what came of it, notices silence, says when to leave. Whoever calls
/// `step` often drives it: it never waits, and knows ranks by their messages alone.
class Root {
 public:
  /// `keeps_folder`: asked at every step; false when another run has taken the output folder.
  Root(const RunContext& context, Communicator& communicator, const Patience& patience, const Clock& clock,
       std::function<bool()> keeps_folder);

  /// Ends all ranks at once if one is silent, or says what is no message.
  void step();

  bool all_have_left() const;
  /// Of the run, as far as it has come.
  int exit_code() const;
  /// Of the models that were opened.
  const Expectation& expected() const { return expected_; }
  /// In the order of the job; leaves none here.
  std::vector<SummaryRow> take_rows();

 private:
  /// What root knows of a rank.
  struct Member {
    bool is_ready = false, is_busy = false, has_left = false;
    double flops = 0;
    double heard_s = 0;      // awake
    Step step = Step::open;  // that it was last given, of the model
    std::size_t model = 0;
    double given_s = 0;  // elapsed
    std::string host;
    long pid = 0;
  };
  Member& member(int rank) { return members_[static_cast<std::size_t>(rank)]; }
  const ModelEntry& entry(std::size_t model) const { return context_.job.models[model]; }

  void say(int to, const from_root::Message& message);
  void say_to_all(const from_root::Message& message);

  void hand_out();
  void give(const Assignment& assignment);
  void hear(const Message& message);
  void take(int from, const to_root::Ready& ready);
  void take(int from, const to_root::Reported& reported);
  void take(int from, const to_root::Alive& alive);
  void take(int from, const to_root::StopAsked& stop);
  void take(int from, const to_root::Failed& failed);
  void take(int from, const to_root::Left& left);

  void hear_opened(int from, std::size_t model, const Report& report);
  void hear_worked(int from, std::size_t model, const Report& report);
  void hear_collected(int from, std::size_t model, const Report& report);
  void note_opened(std::size_t model, const ModelOpened& opened);
  void set_outcome(std::size_t model, const ModelFinished& finished, double elapsed_s);
  double since_start_s(std::size_t model) const;

  void begin_stop(const std::string& reason);
  void leave();
  void notice_silence();
  void end_at_once(const std::string& why);
  SweepState state() const;

  const RunContext& context_;
  Communicator& communicator_;
  Patience patience_;
  const Clock& clock_;
  Scheduler scheduler_;
  std::vector<ModelOutcome> outcomes_;
  std::vector<std::vector<SummaryRow>> rows_;
  std::vector<Member> members_;
  std::map<std::size_t, double> started_s_;  // by model, elapsed
  /// What ranks have told of a model, for who collects it.
  struct Told {
    std::set<std::string> journal_files;                    // names
    std::set<std::pair<std::string, std::string>> tensors;  // and their digests; two, if a tensor has changed
    SumsShape sums;
  };
  std::map<std::size_t, Told> told_;  // of the models under way
  double journalled_flops_ = 0;
  Expectation expected_;
  bool has_failed_ = false, is_stopping_ = false, is_leaving_ = false;
  double stop_began_s_ = 0;  // elapsed
  std::function<bool()> keeps_folder_;
  ProgressDisplay display_;
};

}  // namespace spectrace
