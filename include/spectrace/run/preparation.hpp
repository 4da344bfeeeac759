#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "spectrace/plan/model_plan.hpp"
#include "spectrace/plan/open_model.hpp"
#include "spectrace/run/model_run.hpp"
#include "spectrace/store/journal.hpp"
#include "spectrace/store/result_tree.hpp"

namespace spectrace {

/// What root finds out about a model before work begins, and every rank must know.
struct Preparation {
  std::filesystem::path folder;
  AnalysisChoice analyses;                      ///< what is left to do
  std::vector<PreparedSet> sets;                ///< of those, the sets to run
  std::map<std::string, JournalEntry> journal;  ///< units finished by earlier starts
  bool complete = false;                        ///< nothing is left to do
  // For root alone:
  Identity identity;
  std::string prompt_sha256;          ///< over all sets of the model
  std::optional<ResultTree> earlier;  ///< results that are kept
  std::int64_t num_starts = 1;
  double digest_s = 0;

  std::string to_json() const;
  static Preparation from_json(const std::string& text);
};

/// Root only: opens the model, tokenizes, digests the weights, holds everything against results and journal that are
/// there.
/// @throws InputError (model) if the model cannot be opened, (usage) if what is there does not match.
Preparation prepare_model(const RunContext& context, const ModelEntry& entry);

/// Root only: the model's results are written, or shall be made anew: its journal goes, the note beside it too.
void drop_journal(const RunContext& context, const ModelEntry& entry);

/// Root only: removes the folder's files of a prefix; with an empty one, the half-written files (*.part*) that a killed
/// run left.
void remove_leftovers(const std::filesystem::path& folder, const std::string& prefix);

}  // namespace spectrace
