#include "spectrace/results/statistics.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "spectrace/core/error.hpp"
#include "spectrace/core/floats.hpp"
#include "spectrace/core/parallel.hpp"
#include "spectrace/numerics/exact_sum.hpp"

namespace spectrace {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

}  // namespace

/// One slot's sums over prompts.
struct StatisticsSums::Slot {
  std::int64_t count = 0, nonfinite = 0;
  ExactSum<1> sum;
  ExactSum<2> squares;
  double min = kInfinity, max = -kInfinity;

  void add(double value) {
    if (!std::isfinite(value)) {
      ++nonfinite;
      return;
    }
    ++count;
    sum.add(value);
    squares.add(value);
    // Which of -0.0 and +0.0 is less must not depend on the order.
    min = std::min(min, value + 0.0);
    max = std::max(max, value + 0.0);
  }
};

StatisticsSums::StatisticsSums(std::int64_t num_slots) : slots_(static_cast<std::size_t>(num_slots)) {}
StatisticsSums::~StatisticsSums() = default;
StatisticsSums::StatisticsSums(StatisticsSums&&) noexcept = default;
StatisticsSums& StatisticsSums::operator=(StatisticsSums&&) noexcept = default;

void StatisticsSums::add(const Array& values) {
  const std::size_t num_slots = slots_.size();
  SPECTRACE_ASSERT(num_slots > 0 && values.values.size() % num_slots == 0);
  constexpr std::size_t kSlotsOfTask = 256;
  parallel_for(static_cast<std::int64_t>((num_slots + kSlotsOfTask - 1) / kSlotsOfTask), [&](std::int64_t task) {
    const std::size_t first = static_cast<std::size_t>(task) * kSlotsOfTask;
    const std::size_t end = std::min(num_slots, first + kSlotsOfTask);
    // A slot's sums are much larger than its values: they are fetched once.
    for (std::size_t slot = first; slot < end; ++slot)
      for (std::size_t value = slot; value < values.values.size(); value += num_slots)
        slots_[slot].add(values.values[value]);
  });
}

QuantityStatistics StatisticsSums::finish(std::int64_t num_failed) const {
  const auto num_slots = static_cast<std::int64_t>(slots_.size());
  QuantityStatistics out{num_slots, std::vector<double>(6 * slots_.size(), kNaN)};
  parallel_for(num_slots, [&](std::int64_t i) {
    const Slot& slot = slots_[static_cast<std::size_t>(i)];
    const Moments found = moments(slot.count, slot.sum, slot.squares);
    const bool any = slot.count > 0;
    const double row[] = {static_cast<double>(slot.count),
                          static_cast<double>(slot.nonfinite + num_failed),
                          found.mean,
                          found.std,
                          any ? slot.min : kNaN,
                          any ? slot.max : kNaN};
    for (std::int64_t statistic = 0; statistic < 6; ++statistic)
      out.values[static_cast<std::size_t>(statistic * num_slots + i)] = row[statistic];
  });
  return out;
}

}  // namespace spectrace
