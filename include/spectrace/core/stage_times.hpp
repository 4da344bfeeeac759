#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>

namespace spectrace {

/// What the time of a rank's computing thread goes to: these, and the analyses of weights, each at a place of its own
/// (measure/stages.hpp). Times are added up over ranks by number, so a number must not depend on what a rank has done.
enum class Stage : std::size_t {
  opening,
  reading,
  embedding,
  forward,
  statistics,
  value_spectra,
  prediction,
  writing,
  exchange,
  first_analysis
};
/// At most.
inline constexpr std::size_t kNumStages = 40;

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

/// Gives the time between its construction and destruction to a stage whatever thread it is on. Outside of tasks that
/// is what StageTimer does. In a task it moves the task's share out of `loop`, which its loop is timed as: the time
/// counts by the number of threads that work side by side.
class TaskStageTimer {
 public:
  TaskStageTimer(Stage loop, Stage stage);
  ~TaskStageTimer();
  TaskStageTimer(const TaskStageTimer&) = delete;
  TaskStageTimer& operator=(const TaskStageTimer&) = delete;

 private:
  Stage loop_, stage_;
  std::optional<StageTimer> timer_;
  std::chrono::steady_clock::time_point since_;
};

}  // namespace spectrace
