#include "spectrace/measure/prompts.hpp"

#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <cmath>

#include "spectrace/core/error.hpp"
#include "spectrace/core/floats.hpp"
#include "spectrace/core/parallel.hpp"
#include "spectrace/numerics/device.hpp"
#include "spectrace/numerics/graph_laplacian.hpp"
#include "spectrace/numerics/sheaf_spectrum.hpp"
#include "spectrace/numerics/spectral_summary.hpp"

namespace spectrace {
namespace {

constexpr const char* kNotFinite =
    " not finite: a weight is too large, or the compute type overflows (dtype float64 reaches further)";

std::int64_t longest_prompt(const TokenBatch& batch) {
  std::int64_t longest = 0;
  for (std::int64_t p = 0; p < batch.num_prompts(); ++p)
    longest = std::max(longest,
                       batch.row_start[static_cast<std::size_t>(p) + 1] - batch.row_start[static_cast<std::size_t>(p)]);
  return longest;
}

/// Norms of each prompt's last token and their mean over its tokens.
struct PromptNorms {
  double last = 0, mean = 0;
};

std::vector<PromptNorms> prompt_norms(const TokenBatch& batch, const std::vector<double>& norms) {
  std::vector<PromptNorms> found;
  for (std::int64_t p = 0; p < batch.num_prompts(); ++p) {
    const auto begin = batch.row_start[static_cast<std::size_t>(p)],
               end = batch.row_start[static_cast<std::size_t>(p) + 1];
    double sum = 0;
    for (std::int64_t row = begin; row < end; ++row) sum += norms[static_cast<std::size_t>(row)];
    found.push_back({norms[static_cast<std::size_t>(end - 1)], sum / static_cast<double>(end - begin)});
  }
  return found;
}

/// Row `row` of what has rows as long as `found`.
void set_row(std::span<double> rows, std::size_t row, const std::vector<double>& found) {
  std::copy(found.begin(), found.end(), rows.subspan(row * found.size(), found.size()).begin());
}

/// Where thermodynamics of all heads go, [head, beta] each.
struct ThermodynamicsSlots {
  std::span<double> log_partition, internal_energy, heat_capacity, entropy;

  void set(std::size_t head, const Thermodynamics& found) const {
    set_row(log_partition, head, found.log_partition);
    set_row(internal_energy, head, found.internal_energy);
    set_row(heat_capacity, head, found.heat_capacity);
    set_row(entropy, head, found.entropy);
  }
};

}  // namespace

PromptMeasurement::PromptMeasurement(const ModelDescription& model, const TokenBatch& batch, PromptAnalyses analyses)
    : model_(model),
      batch_(batch),
      analyses_(std::move(analyses)),
      errors_(static_cast<std::size_t>(batch.num_prompts())),
      over_heads_(errors_.size()) {
  const std::int64_t prompts = batch.num_prompts(), layers = model.num_layers, heads = model.num_heads;
  const auto make = [&](std::initializer_list<const char*> names, const std::vector<std::int64_t>& shape) {
    for (const char* name : names) record_.arrays[name] = Array::filled_with_nan(shape);
  };
  if (analyses_.attention) {
    make({"row_entropy", "sparsity", "flat_entropy"}, {prompts, layers, heads});
    make({"row_entropy_mean_attention", "sparsity_mean_attention", "flat_entropy_mean_attention"}, {prompts, layers});
  }
  if (analyses_.sheaf) {
    make({"trace", "lambda_max", "spectral_gap", "nullity", "spectral_entropy", "graph_lambda_2"},
         {prompts, layers, heads});
    make({"trace_multihead", "trace_mean_attention", "contraction_ratio"}, {prompts, layers});
    make({"log_partition", "log_partition_nonzero", "internal_energy", "heat_capacity", "thermal_entropy",
          "graph_log_partition_nonzero", "graph_internal_energy", "graph_heat_capacity", "graph_thermal_entropy"},
         {prompts, layers, heads, static_cast<std::int64_t>(analyses_.beta.size())});
    if (analyses_.graph_eigenvalues) make({"graph_eigenvalues"}, {prompts, layers, heads, longest_prompt(batch)});
  }
  if (analyses_.residual) {
    make({"last_token_norm", "mean_token_norm"}, {prompts, layers + 1});
    make({"gain"}, {prompts, layers});
    make({"final_norm_last_token", "final_norm_mean_token", "last_gain_after_norm"}, {prompts});
  }
}

std::span<double> PromptMeasurement::slots(const char* name, std::initializer_list<std::int64_t> index) {
  Array& target = array(name);
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

void PromptMeasurement::set(const char* name, std::initializer_list<std::int64_t> index, double value) {
  const auto slot = slots(name, index);
  SPECTRACE_ASSERT(index.size() == array(name).shape.size());
  slot.front() = value;
}

void PromptMeasurement::fail(std::int64_t prompt, std::string why) {
  std::string& error = errors_[static_cast<std::size_t>(prompt)];
  if (error.empty()) error = std::move(why);
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
  if (!analyses_.residual) return;
  const auto norms = prompt_norms(batch_, of_rows);
  for (std::int64_t p = 0; p < batch_.num_prompts(); ++p) {
    set("last_token_norm", {p, boundary}, norms[static_cast<std::size_t>(p)].last);
    set("mean_token_norm", {p, boundary}, norms[static_cast<std::size_t>(p)].mean);
  }
}

void PromptMeasurement::see_final_norm(const Tensor& normed) {
  const std::vector<double> of_rows = row_norms(normed);
  expect_finite(of_rows, "the hidden states after the final norm are");
  if (!analyses_.residual) return;
  const auto norms = prompt_norms(batch_, of_rows);
  for (std::int64_t p = 0; p < batch_.num_prompts(); ++p) {
    set("final_norm_last_token", {p}, norms[static_cast<std::size_t>(p)].last);
    set("final_norm_mean_token", {p}, norms[static_cast<std::size_t>(p)].mean);
  }
}

void PromptMeasurement::see_attention(std::int64_t layer, std::int64_t prompt, std::int64_t first_head, const Tensor& a,
                                      const std::vector<ValueSpectrum>& values) {
  if (has_failed(prompt)) return;
  auto& between_calls = over_heads_[static_cast<std::size_t>(prompt)];
  OverHeads over_heads =
      first_head == 0 ? OverHeads{MeanAttention(model_.num_heads)} : std::move(between_calls.value());
  between_calls.reset();
  // Rows sum to 1: the sum is finite if every entry is.
  if (!std::isfinite(a.sum().item<double>())) {
    fail(prompt, "the attention of layer " + std::to_string(layer) + " is" + kNotFinite);
    return;
  }
  over_heads.mean.add(a);
  if (analyses_.attention) see_statistics(layer, prompt, first_head, a);
  if (analyses_.sheaf) see_sheaf(layer, prompt, first_head, a, values, over_heads);
  if (first_head + a.size(0) == model_.num_heads)
    see_over_heads(layer, prompt, values, over_heads);
  else
    between_calls.emplace(std::move(over_heads));
}

void PromptMeasurement::see_statistics(std::int64_t layer, std::int64_t prompt, std::int64_t first_head,
                                       const Tensor& a) {
  const auto of_heads = attention_statistics_of_heads(a);
  for (std::int64_t h = 0; h < a.size(0); ++h) {
    const AttentionStatistics& found = of_heads[static_cast<std::size_t>(h)];
    set("row_entropy", {prompt, layer, first_head + h}, found.row_entropy);
    set("sparsity", {prompt, layer, first_head + h}, found.sparsity);
    set("flat_entropy", {prompt, layer, first_head + h}, found.flat_entropy);
  }
}

void PromptMeasurement::see_over_heads(std::int64_t layer, std::int64_t prompt,
                                       const std::vector<ValueSpectrum>& values, OverHeads& over_heads) {
  const Tensor mean = over_heads.mean.finish();
  if (analyses_.attention) {
    const AttentionStatistics found = attention_statistics(mean);
    set("row_entropy_mean_attention", {prompt, layer}, found.row_entropy);
    set("sparsity_mean_attention", {prompt, layer}, found.sparsity);
    set("flat_entropy_mean_attention", {prompt, layer}, found.flat_entropy);
  }
  if (!analyses_.sheaf) return;
  set("trace_multihead", {prompt, layer}, over_heads.trace);
  // The mean over heads is linear: its off-diagonal sum is the mean of theirs.
  const double first = values.front().frobenius_norm;
  set("trace_mean_attention", {prompt, layer},
      over_heads.off_diagonal_sum / static_cast<double>(model_.num_heads) * first * first);
  set("contraction_ratio", {prompt, layer}, contraction_ratio(Device::to_host(mean)));
}

void PromptMeasurement::see_sheaf(std::int64_t layer, std::int64_t prompt, std::int64_t first_head, const Tensor& a,
                                  const std::vector<ValueSpectrum>& values, OverHeads& over_heads) {
  const std::vector<GraphSpectrum> graphs = graph_spectra(a);
  // Of all heads: finding an array by its name takes longer than filling it for one.
  const auto of_heads = [&](const char* name) { return slots(name, {prompt, layer}); };
  const auto traces = of_heads("trace"), lambda_max = of_heads("lambda_max"), spectral_gap = of_heads("spectral_gap"),
             nullity = of_heads("nullity"), spectral_entropy = of_heads("spectral_entropy"),
             graph_lambda_2 = of_heads("graph_lambda_2");
  const ThermodynamicsSlots non_zero = {of_heads("log_partition_nonzero"), of_heads("internal_energy"),
                                        of_heads("heat_capacity"), of_heads("thermal_entropy")},
                            of_graph = {of_heads("graph_log_partition_nonzero"), of_heads("graph_internal_energy"),
                                        of_heads("graph_heat_capacity"), of_heads("graph_thermal_entropy")};
  const auto log_partition = of_heads("log_partition");
  std::vector<SheafSummary> sheaves(graphs.size(), SheafSummary(analyses_.beta.size()));
  const auto first = static_cast<std::size_t>(first_head);
  parallel_for(a.size(0), [&](std::int64_t head) {
    const c10::InferenceMode no_autograd;
    const auto i = static_cast<std::size_t>(head);
    sheaves[i] = summarize_sheaf(graphs[i].eigenvalues, *values[first + i].levels, analyses_.beta);
  });
  for (std::size_t i = 0; i < graphs.size(); ++i) {
    const std::size_t h = first + i;
    const GraphSpectrum& graph = graphs[i];
    const ValueSpectrum& value = values[h];
    const SheafSummary& sheaf = sheaves[i];
    traces[h] = graph.off_diagonal_sum * value.frobenius_norm * value.frobenius_norm;
    lambda_max[h] = sheaf.lambda_max;
    spectral_gap[h] = sheaf.spectral_gap;
    nullity[h] = sheaf.nullity;
    spectral_entropy[h] = sheaf.spectral_entropy;
    graph_lambda_2[h] = sheaf.graph_lambda_2;
    set_row(log_partition, h, sheaf.log_partition);
    non_zero.set(h, sheaf.non_zero);
    of_graph.set(h, sheaf.graph);
    if (analyses_.graph_eigenvalues) {
      const auto slot = slots("graph_eigenvalues", {prompt, layer, static_cast<std::int64_t>(h)});
      std::copy(graph.eigenvalues.begin(), graph.eigenvalues.end(), slot.begin());
    }
    over_heads.trace += traces[h];
    over_heads.off_diagonal_sum += graph.off_diagonal_sum;
  }
}

void PromptMeasurement::keep_errors(Record& record) const {
  if (std::any_of(errors_.begin(), errors_.end(), [](const auto& error) { return !error.empty(); }))
    record.texts["prompt_errors"] = errors_;
}

Record PromptMeasurement::so_far() const {
  Record record = record_;
  keep_errors(record);
  return record;
}

void PromptMeasurement::go_on_from(const Record& so_far) {
  for (auto& [name, array] : record_.arrays) {
    const Array& found = so_far.arrays.at(name);
    SPECTRACE_ASSERT(found.shape == array.shape);
    array.values = found.values;
  }
  const auto errors = so_far.texts.find("prompt_errors");
  if (errors == so_far.texts.end()) return;
  SPECTRACE_ASSERT(errors->second.size() == errors_.size());
  errors_ = errors->second;
}

void PromptMeasurement::expect_finite_spectra() {
  // The others are ratios, or have slots that do not exist.
  for (const char* name : {"trace", "lambda_max", "spectral_entropy", "log_partition", "trace_multihead"}) {
    const auto found = record_.arrays.find(name);
    if (found == record_.arrays.end()) continue;
    const auto& values = found->second.values;
    const std::size_t slots = values.size() / errors_.size(), layers = static_cast<std::size_t>(model_.num_layers);
    for (std::size_t i = 0; i < values.size(); ++i)
      if (!std::isfinite(values[i]) && !has_failed(static_cast<std::int64_t>(i / slots)))
        fail(static_cast<std::int64_t>(i / slots),
             std::string(name) + " of layer " + std::to_string(i % slots / (slots / layers)) +
                 " is not finite: W_V is too large for its squares to be float64 numbers");
  }
}

Record PromptMeasurement::finish() {
  expect_finite_spectra();
  if (analyses_.residual) {
    const auto& norms = array("last_token_norm");
    const std::int64_t layers = model_.num_layers;
    for (std::int64_t p = 0; p < batch_.num_prompts(); ++p)
      for (std::int64_t l = 0; l < layers; ++l) {
        const auto at = static_cast<std::size_t>(p * (layers + 1) + l);
        set("gain", {p, l}, norms.values[at + 1] / norms.values[at]);
      }
    for (std::int64_t p = 0; p < batch_.num_prompts(); ++p)
      set("last_gain_after_norm", {p},
          array("final_norm_last_token").values[static_cast<std::size_t>(p)] /
              norms.values[static_cast<std::size_t>(p * (layers + 1) + layers - 1)]);
  }
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

std::int64_t measurement_workspace_bytes(const ModelDescription& model, std::int64_t num_prompt_tokens, bool attention,
                                         bool sheaf) {
  const std::int64_t square = num_prompt_tokens * num_prompt_tokens;
  std::int64_t bytes = 0;
  if (attention || sheaf) bytes = mean_attention_bytes(model.num_heads, num_prompt_tokens);
  const bool is_long = has_long_attention(model, num_prompt_tokens);
  if (sheaf) {
    // Laplacians of some heads, and the solver's copy of these. Of a long prompt threads share out the heads.
    const std::int64_t batch = graph_spectra_batch(model.num_heads, num_prompt_tokens);
    const std::int64_t side_by_side =
        is_long ? std::min<std::int64_t>(num_threads(), (model.num_heads + batch - 1) / batch) : 1;
    bytes += 2 * batch * side_by_side * square * 8;
  }
  // Short prompts are seen side by side.
  return bytes * (is_long ? 1 : num_threads());
}

}  // namespace spectrace
