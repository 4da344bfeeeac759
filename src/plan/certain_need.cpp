#include "spectrace/plan/certain_need.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "spectrace/core/error.hpp"
#include "spectrace/measure/prompts.hpp"
#include "spectrace/measure/stored_spectrum.hpp"
#include "spectrace/model/forward.hpp"
#include "spectrace/model/layer_parts.hpp"
#include "spectrace/model/layer_weights.hpp"
#include "spectrace/numerics/attention_statistics.hpp"
#include "spectrace/plan/memory.hpp"

namespace spectrace {
namespace {

double gib(std::int64_t bytes) { return static_cast<double>(bytes) / (1 << 30); }

bool may_fit(std::int64_t needed, std::int64_t limit_bytes) {
  return needed <= std::max(limit_bytes - kLeastProgramBytes, limit_bytes / 2);
}

/// "the weights of layer 3 need", what of it is a layer's.
std::string lack_of(const std::string& what, std::int64_t needed, std::int64_t limit_bytes,
                    const std::string& layer = {}) {
  return fmt::format(
      "{} at least {:.2f} GiB{} beside {:.2f} GiB for the program, and a rank may use {:.2f} GiB in all. "
      "Give at least --max-memory {:.2f}, or run fewer ranks a host: then each may use more.",
      what, gib(needed), layer, gib(kLeastProgramBytes), gib(limit_bytes), gib(needed + kLeastProgramBytes) + 0.005);
}

}  // namespace

CertainNeed::CertainNeed(const ModelDescription& model, const ModelPlan& plan, ComputeType dtype)
    : model_(model),
      plan_(plan),
      element_bytes_(element_size_bytes(dtype)),
      matrix_element_bytes_(element_size_bytes(type_of_matrices(model, dtype))) {
  for (std::int64_t layer = 0; layer < model.num_layers; ++layer)
    largest_layer_bytes_ = std::max(largest_layer_bytes_, layer_size_bytes(model, layer, dtype));
  for (const PlannedSet& set : plan.sets) wants_of_sets_.push_back(wants_of(set.analyses));
}

std::int64_t CertainNeed::bytes(const Unit& unit) const {
  if (const LayerWork* layer = unit.of_layer())
    return most_matrix_elements(model_, layer->analysis->needs(model_)) * matrix_element_bytes_;
  if (const RowsWork* rows = unit.of_rows()) {
    const auto shape = rows->analysis->matrix(model_).canonical_shape();
    return std::min(shape[0], shape[1]) * shape[1] * 8 + rows->rows.count * 8;
  }
  if (const TensorWork* tensor = unit.of_tensor()) return stored_spectrum_least_bytes(tensor->matrix);
  const BatchWork& batch = *unit.of_batch();
  const std::int64_t queries = model_.num_heads * model_.head_dim;
  return largest_layer_bytes_ + batch.num_tokens * (model_.hidden_size + queries) * element_bytes_ +
         attention_bytes(longest_prompt(plan_, batch), batch.set);
}

/// The mask, some heads, what their mean takes, and the most that one of the analyses does, which see them in turn.
std::int64_t CertainNeed::attention_bytes(std::int64_t num_prompt_tokens, std::size_t set) const {
  if (!has_long_attention(model_, num_prompt_tokens)) return 0;
  const PromptWants& wants = wants_of_sets_[set];
  const std::int64_t square = num_prompt_tokens * num_prompt_tokens;
  std::int64_t bytes = square * element_bytes_;
  if (wants.attention) bytes += long_attention_heads(model_.num_heads, 1) * square * element_bytes_;
  if (wants.mean_attention) bytes += mean_attention_bytes(model_.num_heads, num_prompt_tokens);
  return bytes + least_measurement_bytes(model_, plan_.sets[set].analyses, num_prompt_tokens);
}

std::optional<std::string> CertainNeed::find_lack(const Unit& unit, std::int64_t limit_bytes) const {
  const std::int64_t needed = bytes(unit);
  if (may_fit(needed, limit_bytes)) return std::nullopt;
  std::string what, layer;
  if (const LayerWork* work = unit.of_layer()) {
    what = fmt::format("the {} of layer {} need", work->analysis->info().matrices_name, work->layer);
  } else if (const RowsWork* rows = unit.of_rows()) {
    what = fmt::format("the {} needs", rows->analysis->name());
  } else if (const TensorWork* tensor = unit.of_tensor()) {
    what = fmt::format("the matrix '{}' needs", shown_text(tensor->matrix.name));
  } else {
    const BatchWork& batch = *unit.of_batch();
    what = fmt::format("a {} of {} tokens needs", batch.prompts.size() == 1 ? "prompt" : "batch", batch.num_tokens);
    layer = fmt::format(" ({:.2f} of it for the weights of a layer)", gib(largest_layer_bytes_));
  }
  return lack_of(what, needed, limit_bytes, layer);
}

std::optional<std::string> find_lack_of_join(const Chosen& chosen, const Circumstances& of, const std::string& set,
                                             std::int64_t limit_bytes) {
  const std::int64_t needed = chosen.of_prompts()->join_bytes(of) / 2;
  if (may_fit(needed, limit_bytes)) return std::nullopt;
  return lack_of(fmt::format("the {} of prompt set '{}' needs", chosen.name(), set), needed, limit_bytes);
}

}  // namespace spectrace
