#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "spectrace/plan/model_plan.hpp"
#include "spectrace/plan/open_model.hpp"
#include "spectrace/results/growth.hpp"
#include "spectrace/store/journal.hpp"
#include "spectrace/work/run_context.hpp"

namespace spectrace {

/// Where a batch in the middle lies in the journal, and the layer that it goes on with.
struct StatePlace {
  JournalEntry entry;
  std::int64_t next_layer = 0;
};

/// What the rank that opens a model finds out, and every rank that works on it must know. It lies in the model's
/// journal folder: token ids of a set are as large as the set, and most ranks need them of one model only.
struct Preparation {
  std::filesystem::path folder;              ///< of the model
  std::string fingerprint;                   ///< of its files
  Lack lack;                                 ///< what is left to do
  std::map<std::string, StatePlace> states;  ///< batches that an earlier start left in the middle, by the unit's key
  Identity identity;
  bool fresh = false;  ///< results that are there are not built upon
  std::int64_t num_starts = 1;
  double open_s = 0;

  void write(const RunContext& context, const ModelEntry& entry) const;
  /// @throws InputError (io).
  static Preparation read(const RunContext& context, const ModelEntry& entry);
};

/// A model that this rank works on or collects: what the preparation says of it, its headers, its plan, the same on
/// every rank. @throws InputError (model) if the model cannot be opened, (io) if the preparation cannot be read.
struct OpenedModel {
  OpenedModel(const RunContext& context, const ModelEntry& entry);

  Preparation preparation;  ///< without `lack`, which is the plan's
  OpenModel model;
  ModelPlan plan;
};

/// The model's plan, as every rank makes it.
ModelPlan plan_of(const Job& job, const OpenModel& model, Lack lack);

/// Removes the model's journal, preparation among it. `file_names`: as for read_journal_index.
/// @throws InputError (io) if something of it stays.
void drop_journal(const RunContext& context, const ModelEntry& entry, const std::vector<std::string>& file_names = {});
/// The same once the results are whole: what stays is no failure of theirs, but warned of.
void drop_finished_journal(const RunContext& context, const ModelEntry& entry,
                           const std::vector<std::string>& file_names = {});

}  // namespace spectrace
