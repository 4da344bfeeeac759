#include "spectrace/results/summary.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "spectrace/core/build_info.hpp"
#include "spectrace/core/floats.hpp"
#include "spectrace/measure/catalogue.hpp"
#include "spectrace/results/layout.hpp"
#include "spectrace/results/output_folder.hpp"
#include "spectrace/results/result_attributes.hpp"
#include "spectrace/store/result_file.hpp"

namespace spectrace {
namespace {

/// Columns that rows have whatever is measured.
struct TextColumn {
  const char *name, *meaning;
  std::string SummaryRow::*value;
};
constexpr std::array kTextColumns = {TextColumn{"model", "Model", &SummaryRow::model},
                                     TextColumn{"lab", "Lab", &SummaryRow::lab},
                                     TextColumn{"expected", "What the job expects", &SummaryRow::expected},
                                     TextColumn{"prompt_set", "Prompt set", &SummaryRow::prompt_set},
                                     TextColumn{"status", "ok, partial or failed", &SummaryRow::status},
                                     TextColumn{"error", "What failed", &SummaryRow::error}};
struct NumberColumn {
  const char *name, *meaning;
  double SummaryRow::*value;
};
constexpr std::array kNumberColumns = {
    NumberColumn{"num_layers", "Layers", &SummaryRow::num_layers},
    NumberColumn{"num_heads", "Query heads", &SummaryRow::num_heads},
    NumberColumn{"num_prompts", "Prompts of the set", &SummaryRow::num_prompts},
    NumberColumn{"num_failed_prompts", "Prompts that could not run", &SummaryRow::num_failed_prompts}};

double int_attribute(const ResultTree& tree, const std::string& name) {
  const auto* value = tree.find_attribute(name);
  const auto* integer = value == nullptr ? nullptr : std::get_if<std::int64_t>(value);
  return integer == nullptr ? kNaN : static_cast<double>(*integer);
}

void add_numbers(const ResultTree& tree, const TreeNumbers& numbers, const std::string& set, SummaryRow& row) {
  row.prompt_set = set;
  const Group* group = tree.find(group_of_set(set));
  const Dataset* dataset = group == nullptr ? nullptr : group->find(kPromptError);
  const auto* errors = dataset == nullptr ? nullptr : std::get_if<std::vector<std::string>>(&dataset->values);
  if (errors != nullptr) {
    row.num_prompts = static_cast<double>(errors->size());
    row.num_failed_prompts = static_cast<double>(
        std::count_if(errors->begin(), errors->end(), [](const auto& error) { return !error.empty(); }));
  }
  for (const SummaryColumn* column : summary_columns()) row.of_analyses.push_back(column->value(numbers, set));
}

std::string cell(double value, const std::string& format) {
  return std::isnan(value) ? "-" : fmt::format(fmt::runtime(format), value);
}

/// As the table of a run has it.
std::string status_of_run(const SummaryRow& row) {
  return row.refused.empty() ? row.status : name(ModelStatus::mismatch);
}

using Table = std::vector<std::vector<std::string>>;

Table table_of(const std::vector<SummaryRow>& rows) {
  Table table = {{"model", "prompt set", "status", "time s"}};
  const auto& columns = summary_columns();
  for (const SummaryColumn* column : columns)
    if (!column->heading.empty()) table.front().push_back(column->heading);
  for (const auto& row : rows) {
    auto& line = table.emplace_back(std::vector<std::string>{row.model, row.prompt_set.empty() ? "-" : row.prompt_set,
                                                             status_of_run(row), cell(row.elapsed_s, "{:.1f}")});
    for (std::size_t c = 0; c < columns.size(); ++c)
      if (!columns[c]->heading.empty()) line.push_back(cell(row.of_analyses[c], columns[c]->format));
  }
  return table;
}

}  // namespace

std::vector<Quantity> common_summary_columns() {
  std::vector<Quantity> all;
  const auto add = [&](const auto& column) {
    all.push_back({.name = column.name, .dims = {"row"}, .meaning = column.meaning});
  };
  for (const TextColumn& column : kTextColumns) add(column);
  for (const NumberColumn& column : kNumberColumns) add(column);
  return all;
}

const std::vector<const SummaryColumn*>& summary_columns() {
  static const std::vector<const SummaryColumn*> columns = [] {
    std::vector<const SummaryColumn*> all;
    for (const Analysis* analysis : catalogue())
      for (const SummaryColumn& column : analysis->info().summary) all.push_back(&column);
    std::stable_sort(all.begin(), all.end(),
                     [](const SummaryColumn* a, const SummaryColumn* b) { return a->place < b->place; });
    return all;
  }();
  return columns;
}

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
  SummaryRow row;
  row.num_layers = int_attribute(tree, "num_layers");
  row.num_heads = int_attribute(tree, "num_heads");
  row.model = entry.name;
  row.lab = entry.lab;
  row.expected = entry.expected;
  // What this run says of the model counts: earlier results may have been kept although it failed now. One that asked
  // for something else has nothing to say of them.
  const bool is_refused = outcome.status == ModelStatus::mismatch && results != nullptr;
  row.status = is_refused ? text_attribute(tree, "status") : name(outcome.status);
  row.error = is_refused ? text_attribute(tree, "error") : outcome.error;
  if (is_refused) row.refused = outcome.error;
  const TreeNumbers numbers(tree, result_path(job, entry));
  std::vector<SummaryRow> rows;
  if (job.analyses.any_of_prompts())
    for (const auto* set : job.sets_of(entry)) add_numbers(tree, numbers, set->name, rows.emplace_back(row));
  if (rows.empty()) add_numbers(tree, numbers, "", rows.emplace_back(row));
  return rows;
}

Json rows_to_json(const std::vector<SummaryRow>& rows) {
  Json json = Json::array();
  for (const auto& row : rows) {
    Json texts = Json::array(), numbers = Json::array();  // NaN becomes null
    for (const auto& column : kTextColumns) texts.push_back(row.*column.value);
    for (const auto& column : kNumberColumns) numbers.push_back(row.*column.value);
    json.push_back({std::move(texts), std::move(numbers), row.of_analyses, row.elapsed_s, row.refused});
  }
  return json;
}

std::vector<SummaryRow> rows_from_json(const Json& json) {
  const auto number = [](const Json& value) { return value.is_null() ? kNaN : value.get<double>(); };
  std::vector<SummaryRow> rows;
  for (const auto& entry : json) {
    SummaryRow& row = rows.emplace_back();
    for (std::size_t i = 0; i < kTextColumns.size(); ++i)
      row.*kTextColumns[i].value = entry.at(0).at(i).get<std::string>();
    for (std::size_t i = 0; i < kNumberColumns.size(); ++i) row.*kNumberColumns[i].value = number(entry.at(1).at(i));
    for (std::size_t i = 0; i < summary_columns().size(); ++i) row.of_analyses.push_back(number(entry.at(2).at(i)));
    row.elapsed_s = number(entry.at(3));
    row.refused = entry.at(4).get<std::string>();
  }
  return rows;
}

void write_summary_file(const std::filesystem::path& path, const std::vector<SummaryRow>& rows) {
  Group group;
  group.path = kSummaryGroup;
  group.dimensions.push_back(common_dimension("row", counted(static_cast<std::int64_t>(rows.size()))));
  const auto add = [&](const std::string& column, const std::string& meaning, auto values) {
    group.datasets.push_back({column, {"row"}, "1", meaning, std::move(values)});
  };
  for (const auto& column : kTextColumns) {
    std::vector<std::string> values;
    for (const auto& row : rows) values.push_back(row.*column.value);
    add(column.name, column.meaning, std::move(values));
  }
  for (const auto& column : kNumberColumns) {
    std::vector<double> values;
    for (const auto& row : rows) values.push_back(row.*column.value);
    add(column.name, column.meaning, std::move(values));
  }
  for (std::size_t c = 0; c < summary_columns().size(); ++c) {
    std::vector<double> values;
    for (const auto& row : rows) values.push_back(row.of_analyses[c]);
    add(summary_columns()[c]->name, summary_columns()[c]->meaning, std::move(values));
  }
  ResultTree tree;
  tree.attributes = {{"Conventions", kConventions}, {"source", std::string("spectrace ") + program_version()}};
  tree.groups.push_back(std::move(group));
  write_result_file(path, tree);
}

std::string summary_table(const std::vector<SummaryRow>& rows) {
  const Table table = table_of(rows);
  std::vector<std::size_t> widths(table.front().size(), 0);
  for (const auto& line : table)
    for (std::size_t c = 0; c < line.size(); ++c) widths[c] = std::max(widths[c], line[c].size());
  std::string text;
  for (const auto& line : table) {
    for (std::size_t c = 0; c < line.size(); ++c)
      text += c < 3 ? fmt::format("{:<{}}  ", line[c], widths[c]) : fmt::format("{:>{}}  ", line[c], widths[c]);
    text.erase(text.find_last_not_of(' ') + 1);
    text += "\n";
  }
  constexpr std::size_t kMostOfLine = 110;
  std::size_t line_length = 0;
  for (const SummaryColumn* column : summary_columns()) {
    if (column->legend.empty()) continue;
    const std::string legend = column->heading + ": " + column->legend;
    const bool fits = line_length > 0 && line_length + legend.size() <= kMostOfLine;
    if (line_length > 0) text += fits ? "; " : ";\n";
    text += legend;
    line_length = legend.size() + (fits ? line_length + 2 : 0);
  }
  text += "\n";
  std::string last;
  for (const auto& row : rows) {
    const std::string& error = row.refused.empty() ? row.error : row.refused;
    if (error.empty() || row.model == last) continue;
    text += fmt::format("{}: {}: {}\n", row.model, status_of_run(row), error);
    last = row.model;
  }
  return text;
}

}  // namespace spectrace
