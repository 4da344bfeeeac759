#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "spectrace/comm/reductions.hpp"
#include "spectrace/results/batch_sums.hpp"

namespace spectrace {

/// Adds the ranks' sums of one model up, to one of them. Every rank has one of the same shape and receiver, and asks it
/// again and again whether it is through; a rank without a share gives nothing, and holds no more than a piece.
/// First all agree on which chunks the sums reach (ChunkRange), so that they lie alike; then piece after piece.
class SumsReduction {
 public:
  /// What is reduced at once, at most. Tests give less.
  static constexpr std::size_t kPieceValues = Reductions::kMostValues;

  /// @pre own, if there is one, has the shape. `is_receiver`: this rank is `receiver`. `reductions` outlives it.
  SumsReduction(SumsShape shape, std::optional<BatchSums> own, int receiver, bool is_receiver, Reductions& reductions,
                std::size_t piece_values = kPieceValues);

  /// True when all is reduced. Never waits.
  bool step();
  /// On the receiver, once: the sums of all ranks. @pre step() was true.
  BatchSums take();
  /// Bytes that this rank gave.
  std::uint64_t num_bytes() const { return num_bytes_; }

 private:
  /// Slots [first, first + count) of a quantity, in a piece.
  struct Part {
    std::size_t quantity, first, count;
    std::size_t sums_at, extremes_at;
  };
  enum class State { ranges, units, pieces, done };

  void post_ranges();
  void take_ranges();
  bool post_units();
  bool post_piece();
  void take_piece();

  const SumsShape shape_;
  std::optional<BatchSums> own_, all_;
  const int receiver_;
  Reductions& reductions_;
  const std::size_t piece_values_;
  State state_ = State::ranges;
  std::vector<ChunkRange> ranges_;       // by quantity
  std::size_t next_unit_ = 0;            // whose presence is reduced next
  std::size_t quantity_ = 0, slot_ = 0;  // where the next piece begins
  std::vector<Part> parts_;              // of the piece under way
  std::vector<std::int64_t> sums_;
  std::vector<double> extremes_;
  std::uint64_t num_bytes_ = 0;
};

}  // namespace spectrace
