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

void ChunkRange::take_in(const ChunkRange& other) {
  first = std::min(first, other.first);
  end = std::max(end, other.end);
  first_of_squares = std::min(first_of_squares, other.first_of_squares);
  end_of_squares = std::max(end_of_squares, other.end_of_squares);
}

std::size_t ChunkRange::width() const {
  return 2 + static_cast<std::size_t>(std::max(0, end - first)) +
         static_cast<std::size_t>(std::max(0, end_of_squares - first_of_squares));
}

std::int64_t StatisticsSums::num_slots() const { return static_cast<std::int64_t>(slots_.size()); }

ChunkRange StatisticsSums::chunk_range() {
  ChunkRange range;
  for (Slot& slot : slots_) {
    slot.sum.normalize();
    slot.squares.normalize();
    ChunkRange own;
    if (const auto chunks = slot.sum.chunks(); !chunks.empty()) {
      own.first = slot.sum.first_chunk();
      own.end = own.first + static_cast<int>(chunks.size());
    }
    if (const auto chunks = slot.squares.chunks(); !chunks.empty()) {
      own.first_of_squares = slot.squares.first_chunk();
      own.end_of_squares = own.first_of_squares + static_cast<int>(chunks.size());
    }
    range.take_in(own);
  }
  return range;
}

void StatisticsSums::pack_nothing(std::span<std::int64_t> sums, std::span<double> extremes) {
  std::fill(sums.begin(), sums.end(), 0);
  std::fill(extremes.begin(), extremes.end(), kInfinity);
}

void StatisticsSums::pack(std::size_t first, const ChunkRange& range, std::span<std::int64_t> sums,
                          std::span<double> extremes) const {
  pack_nothing(sums, extremes);
  const std::size_t width = range.width(), count = sums.size() / width;
  SPECTRACE_ASSERT(sums.size() == count * width && extremes.size() == 2 * count && first + count <= slots_.size());
  const auto num_chunks = static_cast<std::size_t>(std::max(0, range.end - range.first));
  for (std::size_t i = 0; i < count; ++i) {
    const Slot& slot = slots_[first + i];
    const auto out = sums.subspan(i * width, width);
    out[0] = slot.count;
    out[1] = slot.nonfinite;
    const auto put = [](const auto& sum, std::span<std::int64_t> to, int first_chunk) {
      if (sum.chunks().empty()) return;
      const auto place = static_cast<std::size_t>(sum.first_chunk() - first_chunk);
      SPECTRACE_ASSERT(sum.first_chunk() >= first_chunk && place + sum.chunks().size() <= to.size());
      std::copy(sum.chunks().begin(), sum.chunks().end(), to.begin() + static_cast<std::ptrdiff_t>(place));
    };
    put(slot.sum, out.subspan(2, num_chunks), range.first);
    put(slot.squares, out.subspan(2 + num_chunks), range.first_of_squares);
    extremes[2 * i] = slot.min;
    extremes[2 * i + 1] = -slot.max + 0.0;  // one zero, whichever has the least
  }
}

void StatisticsSums::add_packed(std::size_t first, const ChunkRange& range, std::span<const std::int64_t> sums,
                                std::span<const double> extremes) {
  const std::size_t width = range.width(), count = sums.size() / width;
  SPECTRACE_ASSERT(sums.size() == count * width && extremes.size() == 2 * count && first + count <= slots_.size());
  const auto num_chunks = static_cast<std::size_t>(std::max(0, range.end - range.first));
  for (std::size_t i = 0; i < count; ++i) {
    Slot& slot = slots_[first + i];
    const auto in = sums.subspan(i * width, width);
    slot.count += in[0];
    slot.nonfinite += in[1];
    slot.sum.add_chunks(range.first, {in.data() + 2, num_chunks});
    slot.squares.add_chunks(range.first_of_squares, {in.data() + 2 + num_chunks, width - 2 - num_chunks});
    slot.min = std::min(slot.min, extremes[2 * i] + 0.0);
    slot.max = std::max(slot.max, -extremes[2 * i + 1] + 0.0);
  }
}

}  // namespace spectrace
