#include "rounds.hpp"

#include <utility>

#include "spectrace/core/stage_times.hpp"
#include "spectrace/plan/memory.hpp"

namespace spectrace {

Rounds::Rounds(const LayerStream& stream, const ModelPlan& plan, const PassOptions& options, const PassEvents& events,
               std::vector<std::size_t> batches)
    : stream_(stream),
      plan_(plan),
      options_(options),
      events_(events),
      batches_(std::move(batches)),
      a_round_(options.num_stages == 1
                   ? std::ssize(batches_)
                   : batches_a_round(batch_totals(plan.units, batches_), options.num_stages, options.layers_stay)) {}

bool Rounds::is_full(std::size_t unit, const Round& round, std::int64_t& bytes) const {
  const std::int64_t more =
      bytes_under_way(stream_.model().description, plan_, *plan_.units[unit].of_batch(), stream_.type());
  if (!round.empty() && options_.hidden_bytes_limit > 0 && bytes + more > options_.hidden_bytes_limit) return true;
  bytes += more;
  return false;
}

Round Rounds::next(const Start& start) {
  Round round;
  std::int64_t bytes = 0;
  if (is_first()) {
    while (any_left() && std::cmp_less(round.size(), a_round_) && !is_full(batches_[num_begun_], round, bytes))
      round.push_back(start(batches_[num_begun_++]));
    return round;
  }
  while (std::cmp_less(round.size(), a_round_)) {
    if (!arrival_) {
      const StageTimer timer(Stage::exchange);
      arrival_ = events_.receive(/*wait=*/round.empty() || !options_.layers_stay);
    }
    if (!arrival_ || is_full(arrival_->unit, round, bytes)) break;
    round.push_back(std::make_unique<BatchUnderWay>(stream_.model(), plan_, arrival_->unit));
    round.back()->go_on_from(arrival_->state, stream_.type(), stream_.device());
    arrival_.reset();
    ++num_begun_;
  }
  return round;
}

void Rounds::keep_waiting() {
  if (is_first()) return;
  for (auto arrival = arrival_ ? std::move(arrival_) : events_.receive(false); arrival;
       arrival = events_.receive(false))
    events_.on_state(arrival->unit, std::move(arrival->state));
}

}  // namespace spectrace
