#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <limits>

#include "block_ops.hpp"
#include "spectrace/core/parallel.hpp"

namespace spectrace {
namespace {

/// Prompts whose attention has at least this many entries run one after the other, each on all threads by heads and
/// blocks of rows; shorter ones run side by side, one to a thread. Decided by the shape, never by the number of
/// threads.
constexpr std::int64_t kLongAttentionEntries = std::int64_t{1} << 22;
constexpr std::int64_t kRowsPerBlock = 256;

/// One prompt's rows of the batch.
struct PromptRows {
  std::int64_t prompt, first, count;
};

/// What is added to the scores of every head before softmax: 0 or -inf. The mask of a prompt of n tokens is its leading
/// [n, n] part. [longest, longest]
Tensor make_mask(const AttentionSpec& spec, std::int64_t longest, at::ScalarType type) {
  const c10::InferenceMode no_autograd;
  const Tensor positions = at::arange(longest);
  const Tensor distance = positions.unsqueeze(1) - positions.unsqueeze(0);  // of the key behind the token
  Tensor hidden = distance < 0;
  if (spec.sliding_window) hidden.logical_or_(distance >= *spec.sliding_window);
  Tensor mask = at::zeros({longest, longest}, at::TensorOptions(type));
  mask.masked_fill_(hidden, -std::numeric_limits<double>::infinity());
  return mask;
}

/// What ALiBi (Press et al. 2021, arXiv:2108.12409) adds for each key, up to a number that softmax does not see.
/// [num_heads, 1, longest], or undefined.
Tensor make_alibi(const AttentionSpec& spec, std::int64_t longest, at::ScalarType type) {
  if (spec.alibi_slopes.empty()) return {};
  const c10::InferenceMode no_autograd;
  const Tensor slopes = at::tensor(spec.alibi_slopes, at::kDouble).to(at::kFloat).view({-1, 1, 1});
  const Tensor keys = at::arange(longest);
  const Tensor added = spec.alibi_in_bfloat16 ? slopes.to(at::kBFloat16) * keys : slopes * keys;
  return added.to(type) * spec.alibi_scale;
}

class AttentionTask {
 public:
  AttentionTask(const AttentionSpec& spec, BatchInBlock& batch, std::int64_t longest)
      : spec_(spec),
        batch_(*batch.batch),
        projections_(batch.projections),
        observe_(batch_.observe),
        num_heads_(projections_.queries.size(1)),
        heads_per_group_(num_heads_ / projections_.keys.size(1)),
        mask_(make_mask(spec, longest, projections_.queries.scalar_type())),
        alibi_(make_alibi(spec, longest, projections_.queries.scalar_type())) {
    const auto& row_start = batch_.tokens->row_start;
    for (std::size_t i = 0; i + 1 < row_start.size(); ++i) {
      const PromptRows rows{static_cast<std::int64_t>(i), row_start[i], row_start[i + 1] - row_start[i]};
      (num_heads_ * rows.count * rows.count >= kLongAttentionEntries ? long_ : short_).push_back(rows);
    }
  }

  BlockBatch& batch() const { return batch_; }
  const std::vector<PromptRows>& short_prompts() const { return short_; }
  const std::vector<PromptRows>& long_prompts() const { return long_; }

  void attend_at_once(const PromptRows& prompt) const {
    const Tensor a = at::empty({num_heads_, prompt.count, prompt.count}, projections_.queries.options());
    // Without grouped queries all heads are one batched product; with them, the heads of a group share their keys.
    const std::int64_t step = heads_per_group_ == 1 ? num_heads_ : heads_per_group_;
    for (std::int64_t head = 0; head < num_heads_; head += step)
      attend_part(prompt, head, step, 0, prompt.count, a.narrow(0, head, step));
    if (observe_) observe_(prompt.prompt, a);
  }

  /// A long prompt: tasks of one group's heads and some rows each. The whole matrices are held only if someone looks.
  void attend_in_blocks(const PromptRows& prompt) const {
    const std::int64_t num_blocks = (prompt.count + kRowsPerBlock - 1) / kRowsPerBlock;
    Tensor a;
    if (observe_) a = at::empty({num_heads_, prompt.count, prompt.count}, projections_.queries.options());
    parallel_for(num_heads_ / heads_per_group_ * num_blocks, [&](std::int64_t task) {
      const c10::InferenceMode no_autograd;
      const std::int64_t head = task / num_blocks * heads_per_group_, first = task % num_blocks * kRowsPerBlock;
      const std::int64_t rows = std::min(kRowsPerBlock, prompt.count - first), num_keys = first + rows;
      const Tensor part = at::empty({heads_per_group_, rows, num_keys}, projections_.queries.options());
      attend_part(prompt, head, heads_per_group_, first, rows, part);
      if (!a.defined()) return;
      const Tensor whole_rows = a.narrow(0, head, heads_per_group_).narrow(1, first, rows);
      whole_rows.narrow(2, 0, num_keys).copy_(part);
      whole_rows.narrow(2, num_keys, prompt.count - num_keys).zero_();
    });
    if (observe_) observe_(prompt.prompt, a);
  }

 private:
  /// Heads [head, head + num_heads) of the rows [first, first + count) of a prompt, against all keys up to the last
  /// row: leaves softmax in `a`, [num_heads, count, first + count], and the output in the place of the queries.
  void attend_part(const PromptRows& prompt, std::int64_t head, std::int64_t num_heads, std::int64_t first,
                   std::int64_t count, Tensor a) const {
    const std::int64_t num_keys = first + count, group = head / heads_per_group_;
    const std::int64_t num_groups = std::max<std::int64_t>(1, num_heads / heads_per_group_);
    const auto heads_first = [](const Tensor& x, std::int64_t row, std::int64_t rows, std::int64_t h, std::int64_t n) {
      return x.narrow(0, row, rows).narrow(1, h, n).transpose(0, 1);  // [n, rows, head_dim]
    };
    Tensor queries = heads_first(projections_.queries, prompt.first + first, count, head, num_heads);
    const std::int64_t head_dim = queries.size(2);
    const Tensor keys = heads_first(projections_.keys, prompt.first, num_keys, group, num_groups)
                            .expand({num_heads, num_keys, head_dim});
    const Tensor values = heads_first(projections_.values, prompt.first, num_keys, group, num_groups)
                              .expand({num_heads, num_keys, head_dim});
    score(queries, keys, mask_.narrow(0, first, count).narrow(1, 0, num_keys), head, a);
    at::_softmax_out(a, a, -1, /*half_to_float=*/false);
    at::bmm_out(queries, a, values);
  }

  void score(const Tensor& queries, const Tensor& keys, const Tensor& mask, std::int64_t head, Tensor& a) const {
    const Tensor keys_t = keys.transpose(1, 2);
    const auto alibi = [&] { return alibi_.narrow(0, head, a.size(0)).narrow(2, 0, a.size(2)); };
    if (spec_.score_softcap) {
      at::baddbmm_out(a, a, queries, keys_t, /*beta=*/0, /*alpha=*/spec_.score_scale / *spec_.score_softcap);
      a.tanh_().mul_(*spec_.score_softcap).add_(mask);
      if (alibi_.defined()) a.add_(alibi());
    } else {
      a.copy_(mask.unsqueeze(0).expand_as(a));
      if (alibi_.defined()) a.add_(alibi());
      at::baddbmm_out(a, a, queries, keys_t, /*beta=*/1, /*alpha=*/spec_.score_scale);
    }
  }

  const AttentionSpec& spec_;
  BlockBatch& batch_;
  Projections& projections_;
  const AttentionObserver& observe_;
  const std::int64_t num_heads_, heads_per_group_;
  const Tensor mask_;   // [longest, longest]
  const Tensor alibi_;  // [num_heads, 1, longest] or undefined
  std::vector<PromptRows> short_, long_;
};

}  // namespace

void attend(const AttentionSpec& spec, std::span<BatchInBlock> batches) {
  std::vector<AttentionTask> tasks;
  std::vector<std::pair<std::size_t, std::size_t>> short_prompts;  // of which task, which
  tasks.reserve(batches.size());
  for (BatchInBlock& batch : batches) {
    std::int64_t longest = 0;
    const auto& row_start = batch.batch->tokens->row_start;
    for (std::size_t i = 0; i + 1 < row_start.size(); ++i) longest = std::max(longest, row_start[i + 1] - row_start[i]);
    tasks.emplace_back(spec, batch, longest);
    for (std::size_t i = 0; i < tasks.back().short_prompts().size(); ++i)
      short_prompts.emplace_back(tasks.size() - 1, i);
  }
  const auto place = [&](std::int64_t i) { return short_prompts[static_cast<std::size_t>(i)]; };
  for_tasks_of_batches(
      static_cast<std::int64_t>(short_prompts.size()),
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

std::int64_t attention_workspace_bytes(std::int64_t num_heads, std::int64_t num_prompt_tokens,
                                       std::int64_t element_bytes) {
  const std::int64_t entries = num_heads * num_prompt_tokens * num_prompt_tokens;
  const std::int64_t side_by_side = std::min(entries, kLongAttentionEntries) * num_threads();
  const std::int64_t block = num_heads * kRowsPerBlock * num_prompt_tokens * num_threads();
  const std::int64_t alone = entries >= kLongAttentionEntries ? entries + block : 0;
  const std::int64_t mask = num_prompt_tokens * num_prompt_tokens;
  return (std::max(side_by_side, alone) + mask) * element_bytes;
}

bool has_long_attention(const ModelDescription& model, std::int64_t num_prompt_tokens) {
  return model.num_heads * num_prompt_tokens * num_prompt_tokens >= kLongAttentionEntries;
}

}  // namespace spectrace
