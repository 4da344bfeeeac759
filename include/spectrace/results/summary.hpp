#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "spectrace/plan/job.hpp"
#include "spectrace/store/result_tree.hpp"

namespace spectrace {

/// One row a model and prompt set: what summary.h5 holds and the table at the end of a run shows.
struct SummaryRow {
  std::string model, lab, expected, prompt_set, status, error;
  double num_layers = 0, num_heads = 0, num_prompts = 0, num_failed_prompts = 0;
  double mean_trace = 0;  ///< mean over layers of the prompt-mean trace_multihead
  double l_star_trace = 0, l_star_entropy = 0, l_star_sign_change = 0;
  double w_v_spectral_norm_mean = 0, w_o_spectral_norm_mean = 0;  ///< over layers
  double unembedding_spectral_norm = 0;
  double last_gain_mean = 0, last_gain_after_norm_mean = 0, effective_amplification = 0;
  double elapsed_s = 0;  ///< of this run; not in summary.h5, which is the same from run to run
};

enum class ModelStatus { ok, partial, failed, mismatch };
const char* name(ModelStatus status);

/// What a run says of a model.
struct ModelOutcome {
  ModelStatus status = ModelStatus::ok;
  std::string error;  ///< why it is not ok
};

/// A model's rows, one for each of its sets, from its results where there are any.
std::vector<SummaryRow> summarize(const Job& job, const ModelEntry& entry, const ModelOutcome& outcome,
                                  const ResultTree* results);

/// Rows as messages carry them.
Json rows_to_json(const std::vector<SummaryRow>& rows);
std::vector<SummaryRow> rows_from_json(const Json& json);

/// @throws InputError (io).
void write_summary_file(const std::filesystem::path& path, const std::vector<SummaryRow>& rows);

/// The table for people: model, time, mean trace, L*, mean spectral norms of W_V and W_O, last gain; then the errors.
std::string summary_table(const std::vector<SummaryRow>& rows);

}  // namespace spectrace
