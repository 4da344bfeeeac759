#include "spectrace/core/stage_times.hpp"

#include <mutex>

#include "spectrace/core/parallel.hpp"

namespace spectrace {
namespace {

thread_local StageTimer* innermost = nullptr;

struct Totals {
  std::mutex mutex;
  StageTimes times;
};

Totals& totals() {
  static Totals instance;
  return instance;
}

double seconds_between(std::chrono::steady_clock::time_point from, std::chrono::steady_clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

}  // namespace

StageTimes StageTimes::operator-(const StageTimes& before) const {
  StageTimes difference;
  for (std::size_t i = 0; i < kNumStages; ++i) {
    difference.seconds[i] = seconds[i] - before.seconds[i];
    difference.flops[i] = flops[i] - before.flops[i];
    difference.bytes[i] = bytes[i] - before.bytes[i];
  }
  return difference;
}

StageTimes stage_times() {
  const std::lock_guard lock(totals().mutex);
  return totals().times;
}

StageTimer::StageTimer(Stage stage) : stage_(stage), outer_(innermost), since_(Clock::now()) {
  if (outer_ != nullptr) outer_->give_time(since_);
  innermost = this;
}

StageTimer::~StageTimer() {
  const Clock::time_point now = Clock::now();
  give_time(now);
  innermost = outer_;
  if (outer_ != nullptr) outer_->since_ = now;
}

void StageTimer::give_time(Clock::time_point now) {
  const std::lock_guard lock(totals().mutex);
  totals().times.seconds_of(stage_) += seconds_between(since_, now);
  since_ = now;
}

void count_flops(Stage stage, double flops) {
  const std::lock_guard lock(totals().mutex);
  totals().times.flops[static_cast<std::size_t>(stage)] += flops;
}

void count_bytes(Stage stage, std::uint64_t bytes) {
  const std::lock_guard lock(totals().mutex);
  totals().times.bytes[static_cast<std::size_t>(stage)] += bytes;
}

TaskStageTimer::TaskStageTimer(Stage loop, Stage stage)
    : loop_(loop), stage_(stage), since_(std::chrono::steady_clock::now()) {
  if (!is_in_task()) timer_.emplace(stage);
}

TaskStageTimer::~TaskStageTimer() {
  if (timer_) return;
  const double share = seconds_between(since_, std::chrono::steady_clock::now()) / num_threads();
  const std::lock_guard lock(totals().mutex);
  totals().times.seconds_of(loop_) -= share;
  totals().times.seconds_of(stage_) += share;
}

}  // namespace spectrace
