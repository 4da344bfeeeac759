#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <span>
#include <vector>

#include "spectrace/measure/record.hpp"

namespace spectrace {

/// Statistics of one quantity over the prompts of a set: shape [6, slots], in the order of statistic_names().
/// A value that is not finite is counted, never averaged in (docs/quantities.md, section 7).
struct QuantityStatistics {
  std::int64_t num_slots = 0;
  std::vector<double> values;  // [6, num_slots]: count, nonfinite, mean, std, min, max
};

/// Which chunks exact sums reach, of values and of their squares: [first, end) of each, and one above for carries.
/// Where sums of several ranks are laid out alike, over the range that holds all of theirs, they add up chunk by chunk.
struct ChunkRange {
  static constexpr int kNone = std::numeric_limits<int>::max() / 2;
  int first = kNone, end = -kNone, first_of_squares = kNone, end_of_squares = -kNone;

  void take_in(const ChunkRange& other);
  /// int64 numbers of a slot: how many values, how many that are not finite, and the chunks.
  std::size_t width() const;
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

  std::int64_t num_slots() const;
  /// Of all slots. Brings the sums into the form in which they are packed.
  ChunkRange chunk_range();
  /// Slots [first, first + count) as numbers that add up with those of others: `sums` [count, range.width()], and as
  /// numbers of which the least counts: `extremes` [count, 2], least value and least negative value, infinity if there
  /// is none. @pre chunk_range() was called since the last value came, and `range` holds it.
  void pack(std::size_t first, const ChunkRange& range, std::span<std::int64_t> sums, std::span<double> extremes) const;
  /// The same of no values.
  static void pack_nothing(std::span<std::int64_t> sums, std::span<double> extremes);
  /// Adds what up to 2^30 others have packed, added up.
  void add_packed(std::size_t first, const ChunkRange& range, std::span<const std::int64_t> sums,
                  std::span<const double> extremes);

 private:
  struct Slot;
  std::vector<Slot> slots_;
};

}  // namespace spectrace
