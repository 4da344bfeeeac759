#include "spectrace/results/summary.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "spectrace/core/build_info.hpp"
#include "spectrace/core/floats.hpp"
#include "spectrace/results/result_attributes.hpp"
#include "spectrace/store/result_file.hpp"
#include "spectrace/store/schema.hpp"

namespace spectrace {
namespace {

constexpr std::array kRowTexts = {&SummaryRow::model,      &SummaryRow::lab,    &SummaryRow::expected,
                                  &SummaryRow::prompt_set, &SummaryRow::status, &SummaryRow::error};
constexpr std::array kRowNumbers = {&SummaryRow::num_layers,
                                    &SummaryRow::num_heads,
                                    &SummaryRow::num_prompts,
                                    &SummaryRow::num_failed_prompts,
                                    &SummaryRow::mean_trace,
                                    &SummaryRow::l_star_trace,
                                    &SummaryRow::l_star_entropy,
                                    &SummaryRow::l_star_sign_change,
                                    &SummaryRow::w_v_spectral_norm_mean,
                                    &SummaryRow::w_o_spectral_norm_mean,
                                    &SummaryRow::unembedding_spectral_norm,
                                    &SummaryRow::last_gain_mean,
                                    &SummaryRow::last_gain_after_norm_mean,
                                    &SummaryRow::effective_amplification,
                                    &SummaryRow::elapsed_s};

const std::vector<double>* numbers(const Group* group, const std::string& name) {
  const Dataset* dataset = group == nullptr ? nullptr : group->find(name);
  return dataset == nullptr ? nullptr : std::get_if<std::vector<double>>(&dataset->values);
}

const std::vector<std::string>* texts_of(const Group* group, const std::string& name) {
  const Dataset* dataset = group == nullptr ? nullptr : group->find(name);
  return dataset == nullptr ? nullptr : std::get_if<std::vector<std::string>>(&dataset->values);
}

double scalar(const Group* group, const std::string& name) {
  const auto* values = numbers(group, name);
  return values == nullptr || values->empty() ? kNaN : values->front();
}

/// Mean of entries first, first + step, … of a dataset.
double strided_mean(const std::vector<double>* values, std::size_t first, std::size_t step) {
  if (values == nullptr) return kNaN;
  double sum = 0;
  std::size_t count = 0;
  for (std::size_t i = first; i < values->size(); i += step, ++count) sum += (*values)[i];
  return count == 0 ? kNaN : sum / static_cast<double>(count);
}

double int_attribute(const ResultTree& tree, const std::string& name) {
  const auto* value = tree.find_attribute(name);
  const auto* integer = value == nullptr ? nullptr : std::get_if<std::int64_t>(value);
  return integer == nullptr ? kNaN : static_cast<double>(*integer);
}

SummaryRow model_row(const ResultTree& tree) {
  SummaryRow row;
  row.num_layers = int_attribute(tree, "num_layers");
  row.num_heads = int_attribute(tree, "num_heads");
  const auto* spectral = numbers(tree.find("/weights"), "spectral_norm");
  row.w_v_spectral_norm_mean = strided_mean(spectral, 2, 4);
  row.w_o_spectral_norm_mean = strided_mean(spectral, 3, 4);
  row.unembedding_spectral_norm = scalar(tree.find("/unembedding"), "spectral_norm");
  return row;
}

void add_set(const ResultTree& tree, const std::string& set, SummaryRow& row) {
  const Group* group = tree.find("/prompts/" + set);
  const Group* statistics = tree.find("/prompts/" + set + "/statistics");
  row.prompt_set = set;
  if (const auto* errors = texts_of(group, "prompt_error")) {
    row.num_prompts = static_cast<double>(errors->size());
    row.num_failed_prompts = static_cast<double>(
        std::count_if(errors->begin(), errors->end(), [](const auto& error) { return !error.empty(); }));
  }
  row.mean_trace = kNaN;
  if (const auto* trace = numbers(statistics, "trace_multihead")) {
    const std::size_t layers = trace->size() / statistic_names().size();
    row.mean_trace = std::accumulate(trace->begin() + static_cast<std::ptrdiff_t>(2 * layers),
                                     trace->begin() + static_cast<std::ptrdiff_t>(3 * layers), 0.0) /
                     static_cast<double>(layers);
  }
  row.l_star_trace = scalar(statistics, "l_star_trace");
  row.l_star_entropy = scalar(statistics, "l_star_entropy");
  row.l_star_sign_change = scalar(statistics, "l_star_sign_change");
  row.last_gain_mean = scalar(statistics, "last_gain_mean");
  row.last_gain_after_norm_mean = scalar(statistics, "last_gain_after_norm_mean");
  row.effective_amplification = scalar(statistics, "effective_amplification");
}

std::string cell(double value, const char* format) {
  return std::isnan(value) ? "-" : fmt::format(fmt::runtime(format), value);
}

}  // namespace

const char* name(ModelStatus status) {
  switch (status) {
    case ModelStatus::ok: return "ok";
    case ModelStatus::partial: return "partial";
    case ModelStatus::failed: return "failed";
    case ModelStatus::mismatch: return "mismatch";
  }
  return "?";
}

std::vector<SummaryRow> summarize(const Job& job, const ModelEntry& entry, const ModelOutcome& outcome,
                                  const ResultTree* results) {
  static const ResultTree nothing;
  const ResultTree& tree = results == nullptr ? nothing : *results;
  SummaryRow row = model_row(tree);
  // What this run says of the model counts: earlier results may have been kept although it failed now.
  row.model = entry.name;
  row.lab = entry.lab;
  row.expected = entry.expected;
  row.status = name(outcome.status);
  row.error = outcome.error;
  const auto sets = job.analyses.any_of_prompts() ? job.sets_of(entry) : std::vector<const PromptSetEntry*>{};
  std::vector<SummaryRow> rows;
  for (const auto* set : sets) {
    rows.push_back(row);
    add_set(tree, set->name, rows.back());
  }
  if (sets.empty()) {
    rows.push_back(row);
    add_set(nothing, "", rows.back());
  }
  return rows;
}

Json rows_to_json(const std::vector<SummaryRow>& rows) {
  Json json = Json::array();
  for (const auto& row : rows) {
    Json texts = Json::array(), values = Json::array();
    for (const auto member : kRowTexts) texts.push_back(row.*member);
    for (const auto member : kRowNumbers) values.push_back(row.*member);  // NaN becomes null
    json.push_back({std::move(texts), std::move(values)});
  }
  return json;
}

std::vector<SummaryRow> rows_from_json(const Json& json) {
  std::vector<SummaryRow> rows;
  for (const auto& entry : json) {
    SummaryRow& row = rows.emplace_back();
    std::size_t i = 0;
    for (const auto member : kRowTexts) row.*member = entry.at(0).at(i++).get<std::string>();
    i = 0;
    for (const auto member : kRowNumbers) {
      const Json& value = entry.at(1).at(i++);
      row.*member = value.is_null() ? kNaN : value.get<double>();
    }
  }
  return rows;
}

void write_summary_file(const std::filesystem::path& path, const std::vector<SummaryRow>& rows) {
  Group group;
  group.path = "/summary";
  std::vector<std::int64_t> numbers_of_rows(rows.size());
  std::iota(numbers_of_rows.begin(), numbers_of_rows.end(), 0);
  const DatasetSpec row_spec = dimension_spec("row");
  group.dimensions.push_back({"row", std::move(numbers_of_rows), row_spec.units, row_spec.long_name});

  const auto add_text = [&](const char* name, const char* meaning, std::string SummaryRow::*member) {
    std::vector<std::string> values;
    for (const auto& row : rows) values.push_back(row.*member);
    group.datasets.push_back({name, {"row"}, "1", meaning, std::move(values)});
  };
  const auto add_number = [&](const char* name, const char* meaning, double SummaryRow::*member) {
    std::vector<double> values;
    for (const auto& row : rows) values.push_back(row.*member);
    group.datasets.push_back({name, {"row"}, "1", meaning, std::move(values)});
  };
  add_text("model", "Model", &SummaryRow::model);
  add_text("lab", "Lab", &SummaryRow::lab);
  add_text("expected", "What the job expects", &SummaryRow::expected);
  add_text("prompt_set", "Prompt set", &SummaryRow::prompt_set);
  add_text("status", "ok, partial or failed", &SummaryRow::status);
  add_text("error", "What failed", &SummaryRow::error);
  add_number("num_layers", "Layers", &SummaryRow::num_layers);
  add_number("num_heads", "Query heads", &SummaryRow::num_heads);
  add_number("num_prompts", "Prompts of the set", &SummaryRow::num_prompts);
  add_number("num_failed_prompts", "Prompts that could not run", &SummaryRow::num_failed_prompts);
  add_number("mean_trace", "Mean over layers and prompts of trace_multihead", &SummaryRow::mean_trace);
  add_number("l_star_trace", "Layer of the steepest change of the trace", &SummaryRow::l_star_trace);
  add_number("l_star_entropy", "Layer where the entropy has reached its midpoint", &SummaryRow::l_star_entropy);
  add_number("l_star_sign_change", "Layer where the trace turns from rising to falling",
             &SummaryRow::l_star_sign_change);
  add_number("w_v_spectral_norm_mean", "Mean over layers of the spectral norm of W_V",
             &SummaryRow::w_v_spectral_norm_mean);
  add_number("w_o_spectral_norm_mean", "Mean over layers of the spectral norm of W_O",
             &SummaryRow::w_o_spectral_norm_mean);
  add_number("unembedding_spectral_norm", "Spectral norm of W_U", &SummaryRow::unembedding_spectral_norm);
  add_number("last_gain_mean", "Mean over prompts of the last layer's gain", &SummaryRow::last_gain_mean);
  add_number("last_gain_after_norm_mean", "The same with the final norm", &SummaryRow::last_gain_after_norm_mean);
  add_number("effective_amplification", "Spectral norm of W_U times last_gain_mean",
             &SummaryRow::effective_amplification);

  ResultTree tree;
  tree.attributes = {{"Conventions", kConventions}, {"source", std::string("spectrace ") + program_version()}};
  tree.groups.push_back(std::move(group));
  write_result_file(path, tree);
}

std::string summary_table(const std::vector<SummaryRow>& rows) {
  const std::vector<std::string> head = {"model", "prompt set", "status", "time s",   "mean trace",
                                         "L*",    "|W_V|",      "|W_O|",  "last gain"};
  std::vector<std::vector<std::string>> table = {head};
  for (const auto& row : rows)
    table.push_back({row.model, row.prompt_set.empty() ? "-" : row.prompt_set, row.status,
                     cell(row.elapsed_s, "{:.1f}"), cell(row.mean_trace, "{:.4g}"), cell(row.l_star_trace, "{:.0f}"),
                     cell(row.w_v_spectral_norm_mean, "{:.4g}"), cell(row.w_o_spectral_norm_mean, "{:.4g}"),
                     cell(row.last_gain_mean, "{:.4g}")});
  std::vector<std::size_t> widths(head.size(), 0);
  for (const auto& line : table)
    for (std::size_t c = 0; c < line.size(); ++c) widths[c] = std::max(widths[c], line[c].size());
  std::string text;
  for (const auto& line : table) {
    for (std::size_t c = 0; c < line.size(); ++c)
      text += c < 3 ? fmt::format("{:<{}}  ", line[c], widths[c]) : fmt::format("{:>{}}  ", line[c], widths[c]);
    text.erase(text.find_last_not_of(' ') + 1);
    text += "\n";
  }
  text +=
      "mean trace: sheaf Laplacian, summed over heads, mean over prompts and layers; L*: layer of its steepest "
      "change;\n"
      "|W_V|, |W_O|: largest singular value, mean over layers; last gain: of the last layer, mean over prompts\n";
  std::string last;
  for (const auto& row : rows)
    if (!row.error.empty() && row.model != last) {
      text += fmt::format("{}: {}: {}\n", row.model, row.status, row.error);
      last = row.model;
    }
  return text;
}

}  // namespace spectrace
