#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "spectrace/comm/communicator.hpp"
#include "spectrace/comm/reducer.hpp"
#include "spectrace/plan/job.hpp"
#include "spectrace/plan/open_model.hpp"
#include "spectrace/run/progress.hpp"
#include "spectrace/run/stop.hpp"

namespace spectrace {

/// What all of a run's parts share. Lives as long as the run.
struct RunContext {
  const Job& job;
  IoMode io;
  bool fresh;
  int num_threads;
  Communicator& communicator;
  Reducer& reducer;
  const StopRequest& stop;
  Progress& progress;

  std::filesystem::path result_path(const ModelEntry& model) const { return job.output / (model.name + ".h5"); }
  std::filesystem::path run_info_path(const ModelEntry& model) const { return job.output / (model.name + ".run.json"); }
  std::filesystem::path journal_folder(const ModelEntry& model) const { return job.output / "journal" / model.name; }
};

enum class ModelStatus { ok, partial, failed, mismatch, stopped };
const char* name(ModelStatus status);

struct ModelOutcome {
  ModelStatus status = ModelStatus::ok;
  std::string error;       ///< why it is not ok
  bool was_there = false;  ///< results were complete already
  double elapsed_s = 0;
};

/// One model from checkpoint to results file. What is wrong with the model or its prompts is in the outcome and in the
/// results file; the same on all ranks. Collective. @throws InputError (io, usage) for what ends the whole run.
ModelOutcome run_model(const RunContext& context, std::size_t model_index);

}  // namespace spectrace
