#pragma once

#include <deque>
#include <optional>
#include <string>
#include <string_view>

#include "spectrace/comm/communicator.hpp"
#include "spectrace/comm/reductions.hpp"
#include "spectrace/core/stopwatch.hpp"
#include "spectrace/sweep/clock.hpp"
#include "spectrace/sweep/compute_thread.hpp"
#include "spectrace/sweep/messages.hpp"
#include "spectrace/sweep/sums_reduction.hpp"
#include "spectrace/work/run_context.hpp"

namespace spectrace {

/// A rank's own part in a sweep: tells root that it lives and what came of its orders, hands these to what computes,
/// carries what ranks that share layers send each other, and takes part in the reductions that root asks for. Whoever
/// calls `step` often drives it: it never waits.
class Rank {
 public:
  Rank(RunContext& context, Communicator& communicator, Reductions& reductions, const Patience& patience,
       const Clock& clock, Compute& compute);

  /// Asks root for an early end of the run, once; what is under way here does not wait for its word.
  void ask_to_stop(const std::string& reason);
  /// False when it is time to leave. Ends all ranks at once if root is silent, or says what is no message.
  bool step();
  /// True if there is more of it.
  bool carry() { return context_.link.carry(communicator_); }
  /// Whether a reduction is under way: it moves on in step() alone.
  bool is_reducing() const { return reduction_.has_value(); }

  /// What root says that all leave with.
  int exit_code() const { return exit_code_; }

 private:
  void reduce();
  void stop_work();
  void say(const to_root::Message& message);
  void hear(const Message& message);
  void take(const from_root::Message& message);
  void end_at_once(const std::string& why);

  RunContext& context_;
  Communicator& communicator_;
  Patience patience_;
  const Clock& clock_;
  Compute& compute_;
  Reductions& reductions_;
  std::deque<from_root::Reduce> to_reduce_;  // in root's order
  std::optional<SumsReduction> reduction_;   // of the first of them
  double reduction_began_s_ = 0;             // elapsed
  bool is_leaving_ = false;
  bool stop_asked_ = false;
  int exit_code_ = 0;
  double said_s_ = 0;   // elapsed
  double heard_s_ = 0;  // awake
};

}  // namespace spectrace
