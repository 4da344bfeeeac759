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

const char* name(Stage stage) {
  switch (stage) {
    case Stage::opening: return "opening";
    case Stage::reading: return "reading";
    case Stage::embedding: return "embedding";
    case Stage::forward: return "forward";
    case Stage::statistics: return "statistics";
    case Stage::matrices: return "matrices";
    case Stage::heads: return "heads";
    case Stage::unembedding: return "unembedding";
    case Stage::writing: return "writing";
    case Stage::exchange: return "exchange";
  }
  return "";
}

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

void move_task_time(Stage from, Stage to, double seconds) {
  const double share = seconds / num_threads();
  const std::lock_guard lock(totals().mutex);
  totals().times.seconds_of(from) -= share;
  totals().times.seconds_of(to) += share;
}

}  // namespace spectrace
