#pragma once

#include <algorithm>

#include "spectrace/core/stopwatch.hpp"

namespace spectrace {

/// Time in which this process was able to run, as far as it can tell: a batch system may suspend a job for hours, and a
/// virtual machine stand still. Who waits for others counts only this, as the others stood still too.
class AwakeTime {
 public:
  /// Call several times a second: of a time without a call so much counts.
  static constexpr double kMostBetweenTicks_s = 0.25;
  void tick() {
    passed_s_ += std::min(since_tick_.elapsed_s(), kMostBetweenTicks_s);
    since_tick_.restart();
  }
  double passed_s() const { return passed_s_; }

 private:
  Stopwatch since_tick_;
  double passed_s_ = 0;
};

}  // namespace spectrace
