#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <limits>

#include "block_ops.hpp"
#include "spectrace/core/parallel.hpp"
#include "spectrace/core/stage_times.hpp"

namespace spectrace {
namespace {

/// One prompt's rows of the batch.
struct PromptRows {
  std::int64_t prompt, first, count;
};

/// What is added to the scores of every head before softmax: 0 or -inf. The mask of a prompt of n tokens is its leading
/// [n, n] part. [longest, longest]
Tensor make_mask(const AttentionSpec& spec, std::int64_t longest, at::TensorOptions options) {
  const c10::InferenceMode no_autograd;
  const auto all_hidden = [&] {
    return at::full({longest, longest}, -std::numeric_limits<double>::infinity(), options);
  };
  Tensor mask = all_hidden().triu_(1);
  if (spec.sliding_window) mask.add_(all_hidden().tril_(-*spec.sliding_window));
  return mask;
}

/// What ALiBi (Press et al. 2021, arXiv:2108.12409) adds for each key of the longest prompt, up to a number that
/// softmax does not see. [num_heads, 1, longest], or undefined.
Tensor make_alibi(const AttentionSpec& spec, std::int64_t longest, at::ScalarType type, const Device& device) {
  if (spec.alibi_slopes.empty()) return {};
  const c10::InferenceMode no_autograd;
  const Tensor slopes = device.bring(at::tensor(spec.alibi_slopes, at::kDouble)).to(at::kFloat).view({-1, 1, 1});
  const std::int64_t first = spec.alibi_from_last ? 1 - longest : 0;
  const Tensor keys = at::arange(first, first + longest, device.options(at::kLong));
  const Tensor added = spec.alibi_in_bfloat16 ? slopes.to(at::kBFloat16) * keys : slopes * keys;
  return added.to(type) * spec.alibi_scale;
}

/// Of a long prompt, at a time.
std::int64_t heads_seen(const Device& device, std::int64_t num_heads) {
  return device.is_host() ? long_attention_heads(num_heads, num_threads()) : num_heads;
}

/// Bytes of a score that is widened: of itself, and of its exponential.
constexpr std::int64_t kWidenedBytes = 16;

/// Log of the sum of exponentials of each row. [heads, rows] float64. @pre scores is [heads, rows, keys], contiguous.
Tensor log_sum_exp(const Tensor& scores, std::int64_t most_entries) {
  const Tensor rows = scores.flatten(0, 1);
  const std::int64_t num_rows = rows.size(0), step = std::max<std::int64_t>(1, most_entries / rows.size(1));
  const Tensor logs = at::empty({num_rows}, rows.options().dtype(at::kDouble));
  for (std::int64_t first = 0; first < num_rows; first += step) {
    const std::int64_t count = std::min(step, num_rows - first);
    logs.narrow(0, first, count).copy_(rows.narrow(0, first, count).to(at::kDouble).logsumexp(-1));
  }
  return logs.view({scores.size(0), scores.size(1)});
}

class AttentionTask {
 public:
  AttentionTask(const AttentionSpec& spec, const Pieces& pieces, BatchInBlock& batch, std::int64_t longest)
      : spec_(spec),
        pieces_(pieces),
        batch_(*batch.batch),
        projections_(batch.projections),
        observe_(batch_.observe),
        device_(Device::of(projections_.queries)),
        num_heads_(projections_.queries.size(1)),
        heads_per_group_(num_heads_ / projections_.keys.size(1)),
        mask_(make_mask(spec, longest, projections_.queries.options())),
        alibi_(make_alibi(spec, longest, projections_.queries.scalar_type(), device_)) {
    const auto& row_start = batch_.tokens->row_start;
    for (std::size_t i = 0; i + 1 < row_start.size(); ++i) {
      const PromptRows rows{static_cast<std::int64_t>(i), row_start[i], row_start[i + 1] - row_start[i]};
      (num_heads_ * rows.count * rows.count >= pieces.long_attention_entries ? long_ : short_).push_back(rows);
    }
  }

  BlockBatch& batch() const { return batch_; }
  const std::vector<PromptRows>& short_prompts() const { return short_; }
  const std::vector<PromptRows>& long_prompts() const { return long_; }

  void attend_at_once(const PromptRows& prompt) const {
    const Tensor a = at::empty({num_heads_, prompt.count, prompt.count}, projections_.queries.options());
    // Without grouped queries all heads are one batched product; with them, the heads of a group share their keys.
    const std::int64_t step = heads_per_group_ == 1 ? num_heads_ : heads_together();
    const RowScores scores = scores_of(num_heads_, prompt);
    for (std::int64_t head = 0; head < num_heads_; head += step)
      attend_part(prompt, head, step, 0, prompt.count, a.narrow(0, head, step),
                  [&](const Tensor& part) { see_scores(part, head, 0, scores); });
    if (observe_) observe_(prompt.prompt, 0, a, scores);
  }

  /// A long prompt: tasks of one head (or all) and some rows each. Whole matrices are held only if someone looks, and
  /// then of some heads at a time.
  void attend_in_blocks(const PromptRows& prompt) const {
    const std::int64_t at_once = observe_ ? heads_seen(device_, num_heads_) : num_heads_;
    Tensor seen;
    if (observe_) seen = at::empty({at_once, prompt.count, prompt.count}, projections_.queries.options());
    for (std::int64_t head = 0; head < num_heads_; head += at_once) {
      const std::int64_t heads = std::min(at_once, num_heads_ - head);
      const Tensor a = observe_ ? seen.narrow(0, 0, heads) : Tensor();
      const RowScores scores = scores_of(heads, prompt);
      attend_heads(prompt, head, heads, a, scores);
      if (observe_) observe_(prompt.prompt, head, a, scores);
    }
  }

 private:
  std::int64_t heads_together() const { return pieces_.all_heads ? num_heads_ : heads_per_group_; }

  /// Undefined unless somebody wants them.
  RowScores scores_of(std::int64_t num_heads, const PromptRows& prompt) const {
    if (!batch_.wants_scores) return {};
    const at::TensorOptions options = projections_.queries.options();
    return {at::empty({num_heads, prompt.count}, options),
            at::empty({num_heads, prompt.count}, options.dtype(at::kDouble))};
  }

  /// Takes down the rows [first_row, …) of the heads [first_head, …), if somebody wants them.
  /// @pre scores is [heads, rows, keys].
  void see_scores(const Tensor& scores, std::int64_t first_head, std::int64_t first_row, const RowScores& seen) const {
    if (!batch_.wants_scores) return;
    const TaskStageTimer timer(Stage::forward, Stage::statistics);
    const auto place = [&](const Tensor& all) {
      return all.narrow(0, first_head, scores.size(0)).narrow(1, first_row, scores.size(1));
    };
    place(seen.max).copy_(scores.amax(-1));
    place(seen.log_sum_exp).copy_(log_sum_exp(scores, pieces_.widened_scores));
  }

  /// Heads [head, head + num_heads) of a long prompt; `a`, [num_heads, n, n], takes their attention if it is defined.
  void attend_heads(const PromptRows& prompt, std::int64_t head, std::int64_t num_heads, const Tensor& a,
                    const RowScores& scores) const {
    const std::int64_t most = pieces_.attention_rows, num_blocks = (prompt.count + most - 1) / most;
    const std::int64_t heads = pieces_.all_heads ? num_heads : 1;  // of a product
    device_.for_tasks(num_heads / heads * num_blocks, [&](std::int64_t task) {
      const c10::InferenceMode no_autograd;
      const std::int64_t begin = task / num_blocks * heads, first = task % num_blocks * most;
      const std::int64_t rows = std::min(most, prompt.count - first), num_keys = first + rows;
      const Tensor part = at::empty({heads, rows, num_keys}, projections_.queries.options());
      attend_part(prompt, head + begin, heads, first, rows, part,
                  [&](const Tensor& of_part) { see_scores(of_part, begin, first, scores); });
      if (!a.defined()) return;
      const Tensor whole_rows = a.narrow(0, begin, heads).narrow(1, first, rows);
      whole_rows.narrow(2, 0, num_keys).copy_(part);
      whole_rows.narrow(2, num_keys, prompt.count - num_keys).zero_();
    });
  }

  /// Heads [head, head + num_heads) of the rows [first, first + count) of a prompt, against all keys up to the last
  /// row: leaves softmax in `a`, [num_heads, count, first + count], and the output in the place of the queries.
  /// `see` is shown what enters the softmax, in `a`.
  template <typename See>
  void attend_part(const PromptRows& prompt, std::int64_t head, std::int64_t num_heads, std::int64_t first,
                   std::int64_t count, Tensor a, const See& see) const {
    const std::int64_t num_keys = first + count, group = head / heads_per_group_;
    const std::int64_t num_groups = std::max<std::int64_t>(1, num_heads / heads_per_group_);
    const auto heads_first = [](const Tensor& x, std::int64_t row, std::int64_t rows, std::int64_t h, std::int64_t n) {
      return x.narrow(0, row, rows).narrow(1, h, n).transpose(0, 1);  // [n, rows, head_dim]
    };
    Tensor queries = heads_first(projections_.queries, prompt.first + first, count, head, num_heads);
    const std::int64_t head_dim = queries.size(2);
    const auto of_heads = [&](const Tensor& of_groups) {
      const Tensor x = heads_first(of_groups, prompt.first, num_keys, group, num_groups);
      if (num_groups == 1 || num_groups == num_heads) return x.expand({num_heads, num_keys, head_dim});
      return x.unsqueeze(1)
          .expand({num_groups, heads_per_group_, num_keys, head_dim})
          .reshape({num_heads, num_keys, head_dim});
    };
    const Tensor keys = of_heads(projections_.keys), values = of_heads(projections_.values);
    score(queries, keys, mask_.narrow(0, first, count).narrow(1, 0, num_keys), alibi_of(prompt, head, a), a);
    see(a);
    at::_softmax_out(a, a, -1, /*half_to_float=*/false);
    at::bmm_out(queries, a, values);
  }

  /// What ALiBi adds to the scores a, [heads, rows, keys]: [heads, 1, keys], or undefined.
  Tensor alibi_of(const PromptRows& prompt, std::int64_t head, const Tensor& a) const {
    if (!alibi_.defined()) return {};
    const std::int64_t first_key = spec_.alibi_from_last ? alibi_.size(2) - prompt.count : 0;
    return alibi_.narrow(0, head, a.size(0)).narrow(2, first_key, a.size(2));
  }

  void score(const Tensor& queries, const Tensor& keys, const Tensor& mask, const Tensor& alibi, Tensor& a) const {
    const Tensor keys_t = keys.transpose(1, 2);
    if (spec_.score_softcap) {
      at::baddbmm_out(a, a, queries, keys_t, /*beta=*/0, /*alpha=*/spec_.score_scale / *spec_.score_softcap);
      a.tanh_().mul_(*spec_.score_softcap).add_(mask);
      if (alibi.defined()) a.add_(alibi);
    } else {
      a.copy_(mask.unsqueeze(0).expand_as(a));
      if (alibi.defined()) a.add_(alibi);
      at::baddbmm_out(a, a, queries, keys_t, /*beta=*/1, /*alpha=*/spec_.score_scale);
    }
  }

  const AttentionSpec& spec_;
  const Pieces& pieces_;
  BlockBatch& batch_;
  Projections& projections_;
  const AttentionObserver& observe_;
  const Device device_;
  const std::int64_t num_heads_, heads_per_group_;
  const Tensor mask_;   // [longest, longest]
  const Tensor alibi_;  // [num_heads, 1, longest] or undefined
  std::vector<PromptRows> short_, long_;
};

}  // namespace

void attend(const AttentionSpec& spec, const Pieces& pieces, std::span<BatchInBlock> batches) {
  std::vector<AttentionTask> tasks;
  std::vector<std::pair<std::size_t, std::size_t>> short_prompts;  // of which task, which
  tasks.reserve(batches.size());
  for (BatchInBlock& batch : batches) {
    std::int64_t longest = 0;
    const auto& row_start = batch.batch->tokens->row_start;
    for (std::size_t i = 0; i + 1 < row_start.size(); ++i) longest = std::max(longest, row_start[i + 1] - row_start[i]);
    tasks.emplace_back(spec, pieces, batch, longest);
    for (std::size_t i = 0; i < tasks.back().short_prompts().size(); ++i)
      short_prompts.emplace_back(tasks.size() - 1, i);
  }
  const auto place = [&](std::int64_t i) { return short_prompts[static_cast<std::size_t>(i)]; };
  if (batches.empty()) return;
  for_tasks_of_batches(
      Device::of(batches.front().batch->hidden), static_cast<std::int64_t>(short_prompts.size()),
      [&](std::int64_t i) -> BlockBatch& { return tasks[place(i).first].batch(); },
      [&](std::int64_t i) {
        const AttentionTask& task = tasks[place(i).first];
        task.attend_at_once(task.short_prompts()[place(i).second]);
      });
  for (const AttentionTask& task : tasks)
    for (const PromptRows& rows : task.long_prompts()) {
      if (task.batch().error) break;
      try {
        task.attend_in_blocks(rows);
      } catch (...) {
        task.batch().error = std::current_exception();
      }
    }
}

std::int64_t attention_workspace_bytes(const Device& device, const Pieces& pieces, std::int64_t num_heads,
                                       std::int64_t num_prompt_tokens, std::int64_t element_bytes, bool is_observed) {
  const std::int64_t square = num_prompt_tokens * num_prompt_tokens, entries = num_heads * square;
  const std::int64_t tasks_at_once = device.is_host() ? num_threads() : 1;
  const std::int64_t block =
      (pieces.all_heads ? num_heads : 1) * pieces.attention_rows * num_prompt_tokens * tasks_at_once;
  const std::int64_t seen = is_observed ? heads_seen(device, num_heads) * square : 0;
  const bool is_long = entries >= pieces.long_attention_entries;
  return ((is_long ? seen + block : entries * tasks_at_once) + square) * element_bytes;  // and the mask
}

std::int64_t scores_workspace_bytes(const Device& device, const Pieces& pieces, std::int64_t num_heads,
                                    std::int64_t num_prompt_tokens, std::int64_t element_bytes) {
  const std::int64_t tasks_at_once = device.is_host() ? num_threads() : 1;
  const std::int64_t entries = num_heads * num_prompt_tokens * num_prompt_tokens;
  const bool is_long = entries >= pieces.long_attention_entries;
  // Of rows what is seen, and the same before it is put into its place.
  const std::int64_t of_rows = 2 * num_heads * num_prompt_tokens * (element_bytes + 8) * (is_long ? 1 : tasks_at_once);
  const std::int64_t widened = std::min(entries, std::max(pieces.widened_scores, num_prompt_tokens));
  return of_rows + widened * kWidenedBytes * tasks_at_once;
}

}  // namespace spectrace
