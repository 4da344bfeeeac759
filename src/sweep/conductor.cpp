#include "spectrace/sweep/conductor.hpp"

#include <chrono>
#include <thread>

#include "spectrace/sweep/exit_code.hpp"
#include "spectrace/sweep/rank.hpp"
#include "spectrace/sweep/root.hpp"

namespace spectrace {
namespace {

constexpr std::chrono::microseconds kPollPeriod(1000);
// MPI takes a large message in fragments, one or some each time it is asked, and both ends wait for each other
// meanwhile.
constexpr std::chrono::microseconds kReducingPeriod(20);

}  // namespace

SweepOutcome conduct(RunContext& context, Communicator& communicator, Reductions& reductions, const StopRequest& stop,
                     const Patience& patience, std::unique_ptr<Compute> compute, FolderLock* lock) {
  SystemClock clock;
  std::unique_ptr<Root> root;
  if (lock != nullptr)
    root = std::make_unique<Root>(context, communicator, patience, clock, [lock] { return lock->heartbeat(); });
  Rank rank(context, communicator, reductions, patience, clock, *compute);
  for (bool stay = true; stay;) {
    clock.tick();
    if (stop.requested()) rank.ask_to_stop(stop.reason());
    stay = rank.step();
    if (root) root->step();
    if (rank.carry()) continue;
    std::this_thread::sleep_for(rank.is_reducing() ? kReducingPeriod : kPollPeriod);
  }
  // Everyone has been told to leave; root hears the last words.
  while (root && !root->all_have_left()) {
    clock.tick();
    root->step();
    std::this_thread::sleep_for(kPollPeriod);
  }
  SweepOutcome outcome;
  outcome.exit_code = rank.exit_code();
  outcome.abandoned = !compute->is_idle();
  if (root) outcome.expected = root->expected();
  if (root && outcome.exit_code != kStopped) outcome.rows = root->take_rows();
  return outcome;
}

}  // namespace spectrace
