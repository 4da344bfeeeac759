#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "batch_under_way.hpp"
#include "spectrace/work/layer_stream.hpp"

namespace spectrace {

/// Which batches go through a rank's layers together, and when: those that it begins itself, or those that the stage
/// before sends.
class Rounds {
 public:
  using Start = std::function<std::unique_ptr<BatchUnderWay>(std::size_t unit)>;

  /// `batches`: units, in the order in which the first stage begins them. @pre the others outlive it.
  Rounds(const LayerStream& stream, const ModelPlan& plan, const PassOptions& options, const PassEvents& events,
         std::vector<std::size_t> batches);

  /// The next ones: none when there are no more, or at a stop. `start` begins a batch of the first stage.
  Round next(const Start& start);
  /// Whether batches are still to be begun here.
  bool any_left() const { return num_begun_ < batches_.size(); }
  /// At a stop: what the stage before has sent and nobody has begun goes to the journal.
  void keep_waiting();

 private:
  bool is_first() const { return options_.stage == 0; }
  /// Whether the batch is one too many for a round of so many bytes; else these grow by it.
  bool is_full(std::size_t unit, const Round& round, std::int64_t& bytes) const;

  const LayerStream& stream_;
  const ModelPlan& plan_;
  const PassOptions& options_;
  const PassEvents& events_;
  const std::vector<std::size_t> batches_;
  const std::int64_t a_round_;                  // batches, at most
  std::size_t num_begun_ = 0;                   // by this stage
  std::optional<PassEvents::Arrival> arrival_;  // did not fit into the round before
};

}  // namespace spectrace
