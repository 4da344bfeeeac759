#include "spectrace/sweep/sums_reduction.hpp"

#include <algorithm>
#include <utility>

#include "spectrace/core/error.hpp"

namespace spectrace {

SumsReduction::SumsReduction(SumsShape shape, std::optional<BatchSums> own, int receiver, bool is_receiver,
                             Reductions& reductions, std::size_t piece_values)
    : shape_(std::move(shape)),
      own_(std::move(own)),
      receiver_(receiver),
      reductions_(reductions),
      piece_values_(piece_values) {
  SPECTRACE_ASSERT(!own_ || (own_->units.size() == shape_.num_units && own_->sums.size() == shape_.num_slots.size()));
  if (is_receiver) all_.emplace(shape_);
  post_ranges();
}

bool SumsReduction::step() {
  while (state_ != State::done) {
    if (!reductions_.is_done()) return false;
    switch (state_) {
      case State::ranges:
        take_ranges();
        state_ = State::units;
        break;
      case State::units:
        if (!post_units()) state_ = State::pieces;
        break;
      case State::pieces:
        take_piece();
        if (!post_piece()) state_ = State::done;
        break;
      case State::done: break;
    }
  }
  return true;
}

BatchSums SumsReduction::take() {
  SPECTRACE_ASSERT(state_ == State::done && all_);
  return std::move(*all_);
}

/// As numbers of which the least counts, so that one reduction does for all four.
void SumsReduction::post_ranges() {
  for (std::size_t q = 0; q < shape_.num_slots.size(); ++q) {
    const ChunkRange own = own_ ? own_->sums[q].chunk_range() : ChunkRange();
    sums_.insert(sums_.end(), {own.first, -own.end, own.first_of_squares, -own.end_of_squares});
  }
  SPECTRACE_ASSERT(sums_.size() <= Reductions::kMostValues);
  num_bytes_ += sums_.size() * sizeof(std::int64_t);
  reductions_.post_min_everywhere(sums_);
}

void SumsReduction::take_ranges() {
  for (std::size_t q = 0; q < shape_.num_slots.size(); ++q) {
    const auto number = [&](std::size_t i) { return static_cast<int>(sums_[4 * q + i]); };
    ranges_.push_back({number(0), -number(1), number(2), -number(3)});
  }
}

/// Which units are among the sums, in pieces; false when all are through.
bool SumsReduction::post_units() {
  if (next_unit_ > 0 && all_) {
    const std::size_t begin = next_unit_ - sums_.size();
    std::copy(sums_.begin(), sums_.end(), all_->units.begin() + static_cast<std::ptrdiff_t>(begin));
  }
  if (next_unit_ == shape_.num_units) return false;
  sums_.assign(std::min(piece_values_, shape_.num_units - next_unit_), 0);
  if (own_) std::copy_n(own_->units.begin() + static_cast<std::ptrdiff_t>(next_unit_), sums_.size(), sums_.begin());
  next_unit_ += sums_.size();
  num_bytes_ += sums_.size() * sizeof(std::int64_t);
  reductions_.post_sum(sums_, receiver_);
  return true;
}

/// Slots of as many quantities as fit; false when none is left.
bool SumsReduction::post_piece() {
  parts_.clear();
  std::size_t num_sums = 0, num_extremes = 0;
  while (quantity_ < ranges_.size()) {
    const std::size_t width = ranges_[quantity_].width();
    const auto left = static_cast<std::size_t>(shape_.num_slots[quantity_]) - slot_;
    const std::size_t room = (piece_values_ - std::min(piece_values_, num_sums)) / width;
    // At least one, however little a piece may be.
    const std::size_t count = std::min(left, parts_.empty() ? std::max<std::size_t>(1, room) : room);
    if (count == 0 && left > 0) break;
    if (count > 0) parts_.push_back({quantity_, slot_, count, num_sums, num_extremes});
    num_sums += count * width;
    num_extremes += 2 * count;
    slot_ += count;
    if (count == left) {
      ++quantity_;
      slot_ = 0;
    }
  }
  if (parts_.empty()) return false;
  sums_.resize(num_sums);
  extremes_.resize(num_extremes);
  StatisticsSums::pack_nothing(sums_, extremes_);
  for (const Part& part : parts_) {
    if (!own_) continue;
    const std::size_t width = ranges_[part.quantity].width();
    own_->sums[part.quantity].pack(part.first, ranges_[part.quantity],
                                   std::span(sums_).subspan(part.sums_at, part.count * width),
                                   std::span(extremes_).subspan(part.extremes_at, 2 * part.count));
  }
  num_bytes_ += (num_sums + num_extremes) * sizeof(std::int64_t);
  reductions_.post_sum(sums_, receiver_);
  reductions_.post_min(extremes_, receiver_);
  return true;
}

void SumsReduction::take_piece() {
  if (!all_) return;
  for (const Part& part : parts_)
    all_->sums[part.quantity].add_packed(
        part.first, ranges_[part.quantity],
        std::span(sums_).subspan(part.sums_at, part.count * ranges_[part.quantity].width()),
        std::span(extremes_).subspan(part.extremes_at, 2 * part.count));
}

}  // namespace spectrace
