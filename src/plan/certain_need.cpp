#include "spectrace/plan/certain_need.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "spectrace/model/forward.hpp"
#include "spectrace/model/layer_weights.hpp"
#include "spectrace/numerics/attention_statistics.hpp"

namespace spectrace {
namespace {

/// The program with its libraries takes more than that.
constexpr std::int64_t kLeastProgram = 96 << 20;

double gib(std::int64_t bytes) { return static_cast<double>(bytes) / (1 << 30); }

}  // namespace

CertainNeed::CertainNeed(const ModelDescription& model, const ModelPlan& plan, ComputeType dtype)
    : model_(model), plan_(plan), element_bytes_(dtype == ComputeType::float64 ? 8 : 4) {
  for (std::int64_t layer = 0; layer < model.num_layers; ++layer)
    largest_layer_bytes_ = std::max(largest_layer_bytes_, layer_size_bytes(model, layer, dtype));
}

std::int64_t CertainNeed::longest_prompt(const Unit& unit) const {
  std::size_t longest = 0;
  for (const std::size_t prompt : unit.prompts)
    longest = std::max(longest, plan_.sets[unit.set].prompts[prompt].token_ids.size());
  return static_cast<std::int64_t>(longest);
}

std::int64_t CertainNeed::bytes(const Unit& unit) const {
  switch (unit.kind) {
    case UnitKind::matrices:
    case UnitKind::heads:
      return 2 * (model_.num_heads + model_.num_kv_heads) * model_.head_dim * model_.hidden_size * element_bytes_;
    case UnitKind::unembedding: {
      const auto shape = model_.embedding.unembedding.canonical_shape();
      return std::min(shape[0], shape[1]) * shape[1] * 8 + unit.rows.count * 8;
    }
    case UnitKind::prompts: break;
  }
  const std::int64_t longest = longest_prompt(unit), queries = model_.num_heads * model_.head_dim;
  return largest_layer_bytes_ + unit.num_tokens * (model_.hidden_size + queries) * element_bytes_ +
         attention_bytes(longest);
}

/// The mask, some heads, what their mean takes, and of one head the Laplacian and the solver's copy.
std::int64_t CertainNeed::attention_bytes(std::int64_t num_prompt_tokens) const {
  if (!has_long_attention(model_, num_prompt_tokens)) return 0;
  const std::int64_t square = num_prompt_tokens * num_prompt_tokens;
  std::int64_t bytes = square * element_bytes_;
  if (plan_.analyses.attention || plan_.analyses.sheaf)
    bytes += long_attention_heads(model_.num_heads, 1) * square * element_bytes_ +
             mean_attention_bytes(model_.num_heads, num_prompt_tokens);
  if (plan_.analyses.sheaf) bytes += 2 * square * 8;
  return bytes;
}

std::optional<std::string> CertainNeed::find_lack(const Unit& unit, std::int64_t limit_bytes) const {
  const std::int64_t needed = bytes(unit);
  if (needed <= std::max(limit_bytes - kLeastProgram, limit_bytes / 2)) return std::nullopt;
  std::string what, layer;
  switch (unit.kind) {
    case UnitKind::matrices:
    case UnitKind::heads: what = fmt::format("the attention matrices of layer {} need", unit.layer); break;
    case UnitKind::unembedding: what = "the unembedding needs"; break;
    case UnitKind::prompts:
      what = unit.prompts.size() == 1 ? fmt::format("a prompt of {} tokens needs", unit.num_tokens)
                                      : fmt::format("a batch of {} tokens needs", unit.num_tokens);
      layer = fmt::format(" ({:.2f} of it for the weights of a layer)", gib(largest_layer_bytes_));
  }
  return fmt::format(
      "{} at least {:.2f} GiB{} beside {:.2f} GiB for the program, and a rank may use {:.2f} GiB in all. "
      "Give at least --max-memory {:.2f}, or run fewer ranks a host: then each may use more.",
      what, gib(needed), layer, gib(kLeastProgram), gib(limit_bytes), gib(needed + kLeastProgram) + 0.005);
}

}  // namespace spectrace
