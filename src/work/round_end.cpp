#include "round_end.hpp"

#include <vector>

#include "spectrace/core/stage_times.hpp"
#include "spectrace/core/stopwatch.hpp"
#include "spectrace/work/error_of.hpp"

namespace spectrace {
namespace {

/// A stop has to be over in 40 s. What is done sooner than this is done.
constexpr double kPatience_s = 5;

/// Puts the batches through the unembedding; then there are none.
bool predict_together(const OpenModel& model, std::vector<BatchUnderWay*>& batches, const PassEvents& events) {
  const StageTimer timer(Stage::prediction);
  std::vector<PredictionBatch> together;
  double flops = 0;
  for (const BatchUnderWay* batch : batches) {
    together.push_back(batch->to_predict());
    flops += batch->final_flops;
  }
  bool is_done = false;
  const Stopwatch watch;
  const auto error = error_of("the unembedding", [&] {
    is_done = predict(model.description, model.store, together, [&](double share) {
      if (share * flops > 0) events.on_progress(share * flops);
      return watch.elapsed_s() < kPatience_s || !events.stop_requested();
    });
  });
  if (!error && !is_done) return false;
  count_flops(Stage::prediction, flops);
  for (std::size_t i = 0; i < batches.size(); ++i) {
    batches[i]->error = error;
    if (!error) batches[i]->measurement.see_predictions(together[i].found);
  }
  batches.clear();
  return true;
}

}  // namespace

bool end_round(const OpenModel& model, Round& round, const PassEvents& events) {
  std::vector<BatchUnderWay*> open;
  std::int64_t num_tokens = 0;
  for (auto& batch : round) {
    const StageTimer timer(Stage::embedding);
    if (!batch->error) batch->error = error_of("the final norm", [&] { batch->normalize(model); });
    if (batch->error || !batch->measurement.wants().predictions) continue;
    const bool is_full = num_tokens + batch->tokens.num_tokens() > kTokensPredictedTogether;
    if (is_full && !predict_together(model, open, events)) return false;
    if (open.empty()) num_tokens = 0;
    open.push_back(batch.get());
    num_tokens += batch->tokens.num_tokens();
  }
  return predict_together(model, open, events);
}

}  // namespace spectrace
