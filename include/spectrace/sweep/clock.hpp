#pragma once

#include "spectrace/core/awake_time.hpp"
#include "spectrace/core/stopwatch.hpp"

namespace spectrace {

/// Time as root and the ranks count it while a sweep runs: of one thread, read again and again within a step.
class Clock {
 public:
  virtual ~Clock() = default;
  /// Since the sweep began.
  virtual double elapsed_s() const = 0;
  /// The part of it in which this process was able to run (AwakeTime): what others' silence is measured by.
  virtual double awake_s() const = 0;
};

/// The real one.
class SystemClock final : public Clock {
 public:
  /// Call several times a second.
  void tick() { awake_.tick(); }
  double elapsed_s() const override { return watch_.elapsed_s(); }
  double awake_s() const override { return awake_.passed_s(); }

 private:
  Stopwatch watch_;
  AwakeTime awake_;
};

/// How long ranks wait for each other.
struct Patience {
  double silence_s = 45;  ///< without a sign of life of a rank, the run ends
  double stop_s = 40;     ///< what a stop gives the work under way
};

}  // namespace spectrace
