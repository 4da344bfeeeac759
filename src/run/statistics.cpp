#include "spectrace/run/statistics.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "spectrace/core/error.hpp"
#include "spectrace/core/parallel.hpp"
#include "spectrace/numerics/exact_sum.hpp"

namespace spectrace {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

/// Slots that are reduced in one go: 2.5 KB of chunks each.
constexpr std::int64_t kSlotsAtOnce = 4096;

/// One slot's sums over this rank's prompts.
struct SlotSums {
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
    min = std::min(min, value);
    max = std::max(max, value);
  }
};

constexpr std::int64_t kIntegersPerSlot = 2 + ExactSum<1>::kNumChunks + ExactSum<2>::kNumChunks;

/// Reduces slots [first, first + count) of the quantity.
void reduce_slots(const std::vector<const Array*>& local, std::int64_t num_slots, std::int64_t first,
                  std::int64_t count, Reducer& reducer, std::int64_t num_failed, QuantityStatistics& out) {
  std::vector<SlotSums> sums(static_cast<std::size_t>(count));
  parallel_for(count, [&](std::int64_t i) {
    SlotSums& slot = sums[static_cast<std::size_t>(i)];
    for (const Array* array : local)
      for (std::int64_t at = first + i; at < static_cast<std::int64_t>(array->values.size()); at += num_slots)
        slot.add(array->values[static_cast<std::size_t>(at)]);
    slot.sum.normalize();
    slot.squares.normalize();
  });

  std::vector<std::int64_t> integers;
  std::vector<double> minima, maxima;
  integers.reserve(static_cast<std::size_t>(count * kIntegersPerSlot));
  for (const auto& slot : sums) {
    integers.push_back(slot.count);
    integers.push_back(slot.nonfinite);
    const auto sum = slot.sum.chunks();
    const auto squares = slot.squares.chunks();
    integers.insert(integers.end(), sum.begin(), sum.end());
    integers.insert(integers.end(), squares.begin(), squares.end());
    minima.push_back(slot.min);
    maxima.push_back(slot.max);
  }
  reducer.sum(integers);
  reducer.min(minima);
  reducer.max(maxima);

  parallel_for(count, [&](std::int64_t i) {
    auto at = integers.begin() + i * kIntegersPerSlot;
    SlotSums slot;
    slot.count = *at++;
    slot.nonfinite = *at++ + num_failed;
    std::copy_n(at, slot.sum.chunks().size(), slot.sum.chunks().begin());
    at += static_cast<std::ptrdiff_t>(slot.sum.chunks().size());
    std::copy_n(at, slot.squares.chunks().size(), slot.squares.chunks().begin());
    slot.sum.normalize();
    slot.squares.normalize();
    const Moments found = moments(slot.count, slot.sum, slot.squares);
    const bool any = slot.count > 0;
    const double row[] = {static_cast<double>(slot.count),
                          static_cast<double>(slot.nonfinite),
                          found.mean,
                          found.std,
                          any ? minima[static_cast<std::size_t>(i)] : kNaN,
                          any ? maxima[static_cast<std::size_t>(i)] : kNaN};
    for (std::int64_t statistic = 0; statistic < 6; ++statistic)
      out.values[static_cast<std::size_t>(statistic * num_slots + first + i)] = row[statistic];
  });
}

}  // namespace

QuantityStatistics reduce_statistics(const std::vector<const Array*>& local, std::int64_t num_slots,
                                     std::int64_t num_failed, Reducer& reducer) {
  QuantityStatistics out{num_slots, std::vector<double>(static_cast<std::size_t>(6 * num_slots), kNaN)};
  for (const Array* array : local) SPECTRACE_ASSERT(static_cast<std::int64_t>(array->values.size()) % num_slots == 0);
  for (std::int64_t first = 0; first < num_slots; first += kSlotsAtOnce)
    reduce_slots(local, num_slots, first, std::min(kSlotsAtOnce, num_slots - first), reducer, num_failed, out);
  return out;
}

double l_star_trace(const std::vector<double>& mean_trace) {
  const std::size_t n = mean_trace.size();
  if (n < 2) return kNaN;
  double best = -1;
  std::size_t layer = 0;
  for (std::size_t l = 0; l < n; ++l) {
    const double slope = l == 0       ? mean_trace[1] - mean_trace[0]
                         : l == n - 1 ? mean_trace[n - 1] - mean_trace[n - 2]
                                      : (mean_trace[l + 1] - mean_trace[l - 1]) / 2;
    if (!std::isfinite(slope)) return kNaN;
    if (std::abs(slope) > best) {
      best = std::abs(slope);
      layer = l;
    }
  }
  return static_cast<double>(layer);
}

double l_star_entropy(const std::vector<double>& mean_entropy) {
  if (mean_entropy.empty()) return kNaN;
  const double first = mean_entropy.front(), last = mean_entropy.back(), middle = (first + last) / 2;
  if (!std::isfinite(middle)) return kNaN;
  for (std::size_t l = 0; l < mean_entropy.size(); ++l)
    if (last > first ? mean_entropy[l] >= middle : mean_entropy[l] <= middle) return static_cast<double>(l);
  return static_cast<double>(mean_entropy.size() / 2);
}

double l_star_sign_change(const std::vector<double>& mean_trace) {
  for (std::size_t l = 1; l + 1 < mean_trace.size(); ++l)
    if (mean_trace[l] - mean_trace[l - 1] > 0 && mean_trace[l + 1] - mean_trace[l] < 0) return static_cast<double>(l);
  return kNaN;
}

}  // namespace spectrace
