#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "spectrace/measure/analysis.hpp"
#include "spectrace/plan/job.hpp"
#include "spectrace/store/result_tree.hpp"

namespace spectrace {

/// One row a model and prompt set: what summary.h5 holds and the table at the end of a run shows.
struct SummaryRow {
  std::string model, lab, expected, prompt_set, status, error;
  double num_layers = 0, num_heads = 0, num_prompts = 0, num_failed_prompts = 0;
  std::vector<double> of_analyses;  ///< in the order of summary_columns()
  double elapsed_s = 0;             ///< of this run; not in summary.h5, which is the same from run to run
  std::string refused = {};  ///< why this run would not build upon the results that the row is of; not there either
};

/// The group of summary.h5, and the columns that it has whatever is measured.
inline constexpr const char* kSummaryGroup = "/summary";
std::vector<Quantity> common_summary_columns();
/// What the analyses have to say in it, in the order of the file.
const std::vector<const SummaryColumn*>& summary_columns();

enum class ModelStatus { ok, partial, failed, mismatch };
const char* name(ModelStatus status);

/// What a run says of a model.
struct ModelOutcome {
  ModelStatus status = ModelStatus::ok;
  std::string error;  ///< why it is not ok
};

/// A model's rows, one for each of its sets, from its results where there are any; what is in_rows of these is read
/// from the model's results file. @throws InputError (io).
std::vector<SummaryRow> summarize(const Job& job, const ModelEntry& entry, const ModelOutcome& outcome,
                                  const ResultTree* results);

/// Rows as messages carry them.
Json rows_to_json(const std::vector<SummaryRow>& rows);
std::vector<SummaryRow> rows_from_json(const Json& json);

/// @throws InputError (io).
void write_summary_file(const std::filesystem::path& path, const std::vector<SummaryRow>& rows);

/// The table for people: model, time, what the analyses show; then the errors.
std::string summary_table(const std::vector<SummaryRow>& rows);

}  // namespace spectrace
