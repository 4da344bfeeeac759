#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>

namespace spectrace {

/// What the time of a rank's computing thread goes to.
enum class Stage { opening, reading, embedding, forward, statistics, matrices, heads, unembedding, writing, exchange };
inline constexpr std::size_t kNumStages = 10;
const char* name(Stage stage);

/// Of each stage: seconds of the computing thread's time, floating-point operations, bytes read.
struct StageTimes {
  std::array<double, kNumStages> seconds{};
  std::array<double, kNumStages> flops{};
  std::array<std::uint64_t, kNumStages> bytes{};

  double& seconds_of(Stage stage) { return seconds[static_cast<std::size_t>(stage)]; }
  StageTimes operator-(const StageTimes& before) const;
};

/// The stages' times of this process since it began.
StageTimes stage_times();

/// Gives the time between its construction and destruction to a stage. Timers nest: while an inner one runs, the outer
/// one stands still. Only the thread that computes has timers, not the tasks that it shares out; and the thread beside
/// it, where a GPU leaves it something to do: then the stages' times may be more than what has passed.
class StageTimer {
 public:
  explicit StageTimer(Stage stage);
  ~StageTimer();
  StageTimer(const StageTimer&) = delete;
  StageTimer& operator=(const StageTimer&) = delete;

 private:
  using Clock = std::chrono::steady_clock;
  void give_time(Clock::time_point now);

  Stage stage_;
  StageTimer* outer_;
  Clock::time_point since_;
};

void count_flops(Stage stage, double flops);
void count_bytes(Stage stage, std::uint64_t bytes);

/// Moves time that tasks spent on `to` out of `from`, which their loop is timed as. From any thread; `seconds` are the
/// task's own, and count by the number of threads that work side by side.
void move_task_time(Stage from, Stage to, double seconds);

}  // namespace spectrace
