#include "spectrace/sweep/rank.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <utility>
#include <variant>

#include "spectrace/comm/launch.hpp"
#include "spectrace/core/log.hpp"
#include "spectrace/sweep/exit_code.hpp"

namespace spectrace {
namespace {

constexpr double kAlivePeriod_s = 1.0;

/// A report with how far the rank is.
to_root::Message with_flops(to_root::Message message, double flops_done) {
  if (auto* reported = std::get_if<to_root::Reported>(&message)) reported->flops_done = flops_done;
  if (auto* failed = std::get_if<to_root::Failed>(&message)) failed->flops_done = flops_done;
  return message;
}

}  // namespace

Rank::Rank(RunContext& context, Communicator& communicator, Reductions& reductions, const Patience& patience,
           const Clock& clock, Compute& compute)
    : context_(context),
      communicator_(communicator),
      patience_(patience),
      clock_(clock),
      compute_(compute),
      reductions_(reductions) {
  say(to_root::Ready{.host = host_name(), .pid = ::getpid()});
}

void Rank::ask_to_stop(const std::string& reason) {
  if (stop_asked_) return;
  stop_asked_ = true;
  stop_work();
  say(to_root::StopAsked{.reason = reason});
}

bool Rank::step() {
  if (auto report = compute_.take_report()) say(with_flops(std::move(*report), context_.flops_done.load()));
  if (clock_.elapsed_s() - said_s_ > kAlivePeriod_s) say(to_root::Alive{.flops_done = context_.flops_done.load()});
  while (const auto message = communicator_.try_receive(kFromRoot)) {
    heard_s_ = clock_.awake_s();
    hear(*message);
  }
  reduce();
  // All ranks have been asked for the same reductions before they were told to leave: none is left alone in one.
  if (is_leaving_ && to_reduce_.empty()) {
    say(to_root::Left{});
    return false;
  }
  if (clock_.awake_s() - heard_s_ > patience_.silence_s)
    end_at_once(fmt::format("rank 0 has given no sign of life for {:.0f} s (seen by rank {} on {})",
                            patience_.silence_s, context_.rank, host_name()));
  return true;
}

void Rank::hear(const Message& message) {
  try {
    take(decode_from_root(message.bytes, message.source));
  } catch (const InternalError& error) {
    end_at_once(fmt::format("{} (heard by rank {} on {}; this is a bug in spectrace)", error.what(), context_.rank,
                            host_name()));
  }
}

void Rank::take(const from_root::Message& message) {
  if (const auto* work = std::get_if<from_root::Do>(&message)) {
    compute_.give(work->order);
  } else if (std::holds_alternative<from_root::Stop>(message)) {
    stop_work();
  } else if (const auto* reduce = std::get_if<from_root::Reduce>(&message)) {
    to_reduce_.push_back(*reduce);
  } else if (const auto* leave = std::get_if<from_root::Leave>(&message)) {
    exit_code_ = leave->exit_code;
    is_leaving_ = true;
  }
}

/// One after the other: the others do the same ones in the same order.
void Rank::reduce() {
  while (!to_reduce_.empty()) {
    const from_root::Reduce& next = to_reduce_.front();
    const bool is_receiver = next.receiver == communicator_.rank();
    if (!reduction_) {
      reduction_began_s_ = clock_.elapsed_s();
      reduction_.emplace(next.shape, context_.sums.take(next.model), next.receiver, is_receiver, reductions_);
    }
    if (!reduction_->step()) return;
    if (is_receiver)
      context_.sums.deliver(next.model, {.sums = reduction_->take(),
                                         .backend = reductions_.backend(),
                                         .num_bytes = reduction_->num_bytes(),
                                         .seconds = clock_.elapsed_s() - reduction_began_s_});
    reduction_.reset();
    to_reduce_.pop_front();
  }
}

void Rank::stop_work() {
  context_.stop = true;
  context_.link.stop();
}

void Rank::say(const to_root::Message& message) {
  said_s_ = clock_.elapsed_s();
  communicator_.send(0, kToRoot, encode(message));
}

void Rank::end_at_once(const std::string& why) {
  log_error("{}. The run ends; what is finished is safe: run the same command again to go on.", why);
  flush_log();
  communicator_.abort(kNothingReadOrWritten);
}

}  // namespace spectrace
