#pragma once

#include <filesystem>

#include "spectrace/plan/job.hpp"

namespace spectrace {

/// Where what belongs to a model lies in the job's output folder.
inline std::filesystem::path result_path(const Job& job, const ModelEntry& model) {
  return job.output / (model.name + ".h5");
}
inline std::filesystem::path run_info_path(const Job& job, const ModelEntry& model) {
  return job.output / (model.name + ".run.json");
}
inline std::filesystem::path journal_folder(const Job& job, const ModelEntry& model) {
  return job.output / "journal" / model.name;
}

/// In the journal's folder: what the ranks that work on the model must know (work/preparation.hpp).
inline std::filesystem::path preparation_path(const Job& job, const ModelEntry& model) {
  return journal_folder(job, model) / "preparation.jsonl";
}

}  // namespace spectrace
