#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "spectrace/measure/record.hpp"

namespace spectrace {

/// Statistics of one quantity over the prompts of a set: shape [6, slots], in the order of statistic_names().
/// A value that is not finite is counted, never averaged in (docs/quantities.md, section 7).
struct QuantityStatistics {
  std::int64_t num_slots = 0;
  std::vector<double> values;  // [6, num_slots]: count, nonfinite, mean, std, min, max
};

/// The sums that statistics of one quantity are made of: exact, so the same bits whatever the order in which prompts
/// come. Memory: some 200 bytes a slot, up to ten times as much where a slot's values differ by hundreds of orders
/// of magnitude.
class StatisticsSums {
 public:
  explicit StatisticsSums(std::int64_t num_slots);
  ~StatisticsSums();
  StatisticsSums(StatisticsSums&&) noexcept;
  StatisticsSums& operator=(StatisticsSums&&) noexcept;

  /// Values of some prompts: [prompts, slots...].
  void add(const Array& values);
  /// num_failed prompts have no values and count as not finite.
  QuantityStatistics finish(std::int64_t num_failed) const;

 private:
  struct Slot;
  std::vector<Slot> slots_;
};

}  // namespace spectrace
