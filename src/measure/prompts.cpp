#include "spectrace/measure/prompts.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "spectrace/core/error.hpp"
#include "spectrace/core/floats.hpp"
#include "spectrace/core/parallel.hpp"
#include "spectrace/core/stage_times.hpp"
#include "spectrace/numerics/spectral_summary.hpp"

namespace spectrace {
namespace {

constexpr const char* kNotFinite =
    " not finite: a weight is too large, or the compute type overflows (dtype float64 reaches further)";

std::int64_t longest_prompt(const TokenBatch& batch) {
  std::int64_t longest = 0;
  for (std::size_t p = 0; p + 1 < batch.row_start.size(); ++p)
    longest = std::max(longest, batch.row_start[p + 1] - batch.row_start[p]);
  return longest;
}

/// Of one analysis for one prompt, by quantity: sizes of what a record has. Slicing decides none of them.
template <typename Visit>
void for_each_measured(const Chosen& chosen, const ModelDescription& model, std::int64_t longest, const Visit& visit) {
  const Extents extents = chosen.extents(model, Slicing::correct, longest);
  for (const Quantity* quantity : chosen.quantities())
    if (quantity->derived.from.empty()) visit(*quantity, shape_of(*quantity, extents, "prompt"));
}

}  // namespace

PromptMeasurement::PromptMeasurement(const ModelDescription& model, const TokenBatch& batch, AnalysisChoice analyses)
    : model_(model),
      batch_(batch),
      analyses_(std::move(analyses)),
      wants_(wants_of(analyses_)),
      errors_(static_cast<std::size_t>(batch.num_prompts())),
      means_(errors_.size()),
      graphs_(errors_.size()) {
  for (const Chosen& chosen : analyses_) {
    for_each_measured(chosen, model_, longest_prompt(batch_),
                      [&](const Quantity& quantity, std::vector<std::int64_t> shape) {
                        shape.insert(shape.begin(), batch_.num_prompts());
                        record_.arrays[quantity.name] = Array::filled_with_nan(std::move(shape));
                      });
    observers_.push_back(chosen.of_prompts()->observe(model_, batch_, chosen.settings, *this));
  }
}

bool PromptMeasurement::is_left_out(const char* quantity) const {
  return std::any_of(analyses_.begin(), analyses_.end(), [&](const Chosen& chosen) {
    const Quantity* declared = chosen.analysis->find_quantity(quantity);
    return declared != nullptr && !declared->option.empty();
  });
}

std::span<double> PromptMeasurement::slots(const char* quantity, std::initializer_list<std::int64_t> index) {
  const auto place = record_.arrays.find(quantity);
  if (place == record_.arrays.end()) {
    if (!is_left_out(quantity))
      throw InternalError("an analysis has a value of '" + std::string(quantity) + "', which none of these declares");
    return {};
  }
  Array& target = place->second;
  SPECTRACE_ASSERT(index.size() <= target.shape.size());
  std::int64_t flat = 0;
  std::size_t axis = 0;
  for (const std::int64_t i : index) {
    SPECTRACE_ASSERT(i >= 0 && i < target.shape[axis]);
    flat = flat * target.shape[axis++] + i;
  }
  std::int64_t count = 1;
  for (; axis < target.shape.size(); ++axis) count *= target.shape[axis];
  return std::span(target.values).subspan(static_cast<std::size_t>(flat * count), static_cast<std::size_t>(count));
}

void PromptMeasurement::set(const char* quantity, std::initializer_list<std::int64_t> index, double value) {
  const auto slot = slots(quantity, index);
  SPECTRACE_ASSERT(slot.size() == 1);
  slot.front() = value;
}

void PromptMeasurement::fail(std::int64_t prompt, std::string why) {
  std::string& error = errors_[static_cast<std::size_t>(prompt)];
  if (error.empty()) error = std::move(why);
  means_[static_cast<std::size_t>(prompt)].reset();
  graphs_[static_cast<std::size_t>(prompt)] = {};
}

void PromptMeasurement::expect_finite(const std::vector<double>& row_norms, const std::string& what) {
  for (std::int64_t p = 0; p < batch_.num_prompts(); ++p) {
    const auto place = static_cast<std::size_t>(p);
    if (!std::all_of(row_norms.begin() + batch_.row_start[place], row_norms.begin() + batch_.row_start[place + 1],
                     [](double norm) { return std::isfinite(norm); }))
      fail(p, what + kNotFinite);
  }
}

void PromptMeasurement::see_boundary(std::int64_t boundary, const Tensor& hidden) {
  const std::vector<double> of_rows = row_norms(hidden);
  expect_finite(of_rows, boundary == 0 ? "the embeddings are"
                                       : "the hidden states after block " + std::to_string(boundary - 1) + " are");
  const StageTimer timer(Stage::statistics);
  for (const auto& observer : observers_) observer->see_norms(boundary, of_rows);
  if (wants_.boundaries) {
    const Tensor here = Device::to_host(hidden);
    for (const auto& observer : observers_) observer->see_boundary(boundary, here);
  }
  if (!wants_.predictions && !wants_.last_tokens) return;
  const Tensor last = last_rows(hidden);
  if (wants_.predictions) {
    if (!last_tokens_.defined())
      last_tokens_ = at::zeros({batch_.num_prompts(), model_.num_layers + 1, hidden.size(1)}, hidden.options());
    last_tokens_.select(1, boundary).copy_(last);
  }
  if (!wants_.last_tokens) return;
  const Tensor here = Device::to_host(last);
  for (const auto& observer : observers_) observer->see_last_tokens(boundary, here);
}

/// Of each prompt, where `hidden` lies: [num_prompts, hidden_size].
Tensor PromptMeasurement::last_rows(const Tensor& hidden) const {
  Tensor last = at::empty({batch_.num_prompts(), hidden.size(1)}, hidden.options());
  for (std::int64_t p = 0; p < batch_.num_prompts(); ++p)
    last.select(0, p).copy_(hidden.select(0, batch_.rows_of(p).last() - 1));
  return last;
}

void PromptMeasurement::see_entering(std::int64_t layer, const Tensor& hidden) {
  if (!wants_.entering) return;
  const StageTimer timer(Stage::statistics);
  const Tensor here = Device::to_host(hidden);
  for (const auto& observer : observers_) observer->see_entering(layer, here);
}

void PromptMeasurement::see_writes(std::int64_t layer, const BlockWrites& writes) {
  for (const auto& observer : observers_) observer->see_writes(layer, writes);
}

void PromptMeasurement::see_final_norm(const Tensor& normed) {
  const std::vector<double> of_rows = row_norms(normed);
  expect_finite(of_rows, "the hidden states after the final norm are");
  for (const auto& observer : observers_) observer->see_final_norms(of_rows);
}

void PromptMeasurement::see_predictions(const Predictions& predictions) {
  for (std::int64_t p = 0; p < batch_.num_prompts(); ++p) {
    const auto is_finite = [](const std::vector<double>& values, const RowRange& part) {
      return std::all_of(values.begin() + part.first, values.begin() + part.last(),
                         [](double x) { return std::isfinite(x); });
    };
    const RowRange boundaries = {p * (model_.num_layers + 1), model_.num_layers + 1};
    if (!is_finite(predictions.entropy, batch_.rows_of(p)) || !is_finite(predictions.lens_kl, boundaries) ||
        !is_finite(predictions.lens_entropy, boundaries))
      fail(p, fmt::format("the scores of the next token are{}", kNotFinite));
  }
  for (const auto& observer : observers_) observer->see_predictions(predictions);
}

void PromptMeasurement::see_attention(std::int64_t layer, std::int64_t prompt, std::int64_t first_head, const Tensor& a,
                                      const std::vector<ValueSpectrum>& values, const RowScores& scores) {
  if (has_failed(prompt)) return;
  // Rows sum to 1: the sum is finite if every entry is.
  if (!std::isfinite(a.sum().item<double>())) {
    fail(prompt, "the attention of layer " + std::to_string(layer) + " is" + kNotFinite);
    return;
  }
  const auto place = static_cast<std::size_t>(prompt);
  std::optional<MeanAttention>& mean = means_[place];
  if (first_head == 0 && wants_.mean_attention) mean.emplace(model_.num_heads);
  if (mean) mean->add(a);
  if (first_head == 0) graphs_[place] = {};
  if (wants_.graph_spectra) graphs_[place].add(a);
  for (const auto& observer : observers_) observer->see_heads({layer, prompt, first_head, a, values, scores});
  if (first_head + a.size(0) < model_.num_heads) return;
  const Tensor finished = mean ? mean->finish() : Tensor();
  const std::vector<GraphSpectrum> graphs = graphs_[place].take();
  for (const auto& observer : observers_) observer->see_all_heads({layer, prompt, values, graphs, finished});
  mean.reset();
}

void PromptMeasurement::keep_errors(Record& record) const {
  if (std::any_of(errors_.begin(), errors_.end(), [](const auto& error) { return !error.empty(); }))
    record.texts[kPromptErrors] = errors_;
}

Record PromptMeasurement::so_far() const {
  Record record = record_;
  keep_errors(record);
  if (last_tokens_.defined()) record.arrays[kLastTokens] = as_array(last_tokens_);
  return record;
}

void PromptMeasurement::go_on_from(const Record& so_far, ComputeType type, const Device& device) {
  if (wants_.predictions) last_tokens_ = device.bring(as_tensor(so_far.arrays.at(kLastTokens), type));
  for (auto& [name, array] : record_.arrays) {
    const Array& before = so_far.arrays.at(name);
    SPECTRACE_ASSERT(before.shape == array.shape);
    array.values = before.values;
  }
  const auto errors = so_far.texts.find(kPromptErrors);
  if (errors == so_far.texts.end()) return;
  SPECTRACE_ASSERT(errors->second.size() == errors_.size());
  errors_ = errors->second;
}

void PromptMeasurement::expect_finite_values() {
  for (const Chosen& chosen : analyses_)
    for (const Quantity* quantity : chosen.quantities())
      if (!quantity->must_be_finite.empty()) expect_finite(*quantity, record_.arrays.at(quantity->name));
}

/// @pre the quantity is one of layers: [prompt, layer, …].
void PromptMeasurement::expect_finite(const Quantity& quantity, const Array& array) {
  const std::size_t slots = array.values.size() / errors_.size(),
                    layer_slots = slots / static_cast<std::size_t>(model_.num_layers);
  for (std::size_t i = 0; i < array.values.size(); ++i) {
    const auto prompt = static_cast<std::int64_t>(i / slots);
    if (std::isfinite(array.values[i]) || has_failed(prompt)) continue;
    fail(prompt, quantity.name + " of layer " + std::to_string(i % slots / layer_slots) +
                     " is not finite: " + quantity.must_be_finite);
  }
}

Record PromptMeasurement::finish() {
  expect_finite_values();
  for (const auto& observer : observers_) observer->finish();
  for (std::size_t p = 0; p < errors_.size(); ++p) {
    if (errors_[p].empty()) continue;
    for (auto& [name, array] : record_.arrays) {
      const auto slots = static_cast<std::ptrdiff_t>(array.values.size() / errors_.size());
      const auto first = array.values.begin() + static_cast<std::ptrdiff_t>(p) * slots;
      std::fill(first, first + slots, kNaN);
    }
  }
  keep_errors(record_);
  return std::move(record_);
}

std::int64_t num_values_of_prompt(const ModelDescription& model, const AnalysisChoice& analyses, std::int64_t longest) {
  std::int64_t values = 0;
  for (const Chosen& chosen : analyses)
    if (chosen.is_of_prompts())
      for_each_measured(chosen, model, longest, [&](const Quantity&, const std::vector<std::int64_t>& shape) {
        std::int64_t of_quantity = 1;
        for (const std::int64_t size : shape) of_quantity *= size;
        values += of_quantity;
      });
  return values;
}

std::int64_t measurement_workspace_bytes(const ModelDescription& model, const AnalysisChoice& analyses,
                                         std::int64_t num_prompt_tokens, const Device& device) {
  const PromptWants wants = wants_of(analyses);
  const bool has_all_threads = !device.is_host() || has_long_attention(model, num_prompt_tokens);
  std::int64_t bytes = wants.mean_attention ? mean_attention_bytes(model.num_heads, num_prompt_tokens) : 0;
  // Threads share out the heads of a prompt that has them for itself.
  if (wants.graph_spectra)
    bytes += graph_spectra_bytes(model.num_heads, num_prompt_tokens, has_all_threads ? num_threads() : 1);
  for (const Chosen& chosen : analyses)
    if (const PromptAnalysis* analysis = chosen.of_prompts())
      bytes += analysis->workspace_bytes(model, num_prompt_tokens, device);
  return bytes * (has_all_threads ? 1 : num_threads());
}

std::int64_t least_measurement_bytes(const ModelDescription& model, const AnalysisChoice& analyses,
                                     std::int64_t num_prompt_tokens) {
  std::int64_t bytes = wants_of(analyses).graph_spectra ? graph_spectra_bytes(1, num_prompt_tokens, 1) : 0;
  for (const Chosen& chosen : analyses)
    if (const PromptAnalysis* analysis = chosen.of_prompts())
      bytes = std::max(bytes, analysis->least_bytes(model, num_prompt_tokens));
  return bytes;
}

std::int64_t measurement_device_bytes(const ModelDescription& model, const AnalysisChoice& analyses,
                                      std::int64_t num_prompt_tokens) {
  std::int64_t bytes = 0;
  for (const Chosen& chosen : analyses)
    if (const PromptAnalysis* analysis = chosen.of_prompts()) bytes += analysis->device_bytes(model, num_prompt_tokens);
  return bytes;
}

double measurement_flops(const ModelDescription& model, const AnalysisChoice& analyses, std::int64_t num_tokens) {
  double flops = 0;
  if (wants_of(analyses).graph_spectra) {  // the eigenvalues of every head's token graph
    const auto n = static_cast<double>(num_tokens);
    flops = 4.0 / 3.0 * n * n * n * static_cast<double>(model.num_heads);
  }
  for (const Chosen& chosen : analyses)
    if (const PromptAnalysis* analysis = chosen.of_prompts()) flops += analysis->flops(model, num_tokens);
  return flops;
}

}  // namespace spectrace
