#pragma once

#include <cstddef>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "spectrace/plan/scheduler.hpp"
#include "spectrace/results/batch_sums.hpp"
#include "spectrace/results/summary.hpp"

namespace spectrace {

/// What planning expects of models, together.
struct Expectation {
  double busy_s = 0;  ///< of all ranks together
  double peak_bytes = 0;
  bool is_calibrated = true;  ///< by rates measured on this machine
};

/// Of opening: what is left to do.
struct ModelOpened {
  std::vector<OpenUnit> units;
  int stages = 1;                  ///< ranks that shall share the model's layers
  SumsShape sums{};                ///< of the statistics over its prompts
  std::size_t num_journalled = 0;  ///< units that are done already
  double journalled_flops = 0;
  Expectation expected{};
};

/// Of work: done, or stopped, as far as the journal says.
struct UnitsWorked {
  std::string journal_file;  ///< name of the file that this rank writes
  /// What the batches were made of that are in this rank's sums (SumsStore): tensors and their digests, each told once.
  std::vector<std::pair<std::string, std::string>> tensors{};
};

/// Of collecting: units whose records are not in the journal, or damaged. Nothing was written.
struct RecordsMissing {
  std::vector<OpenUnit> units;
};

/// What became of a model. Of opening: nothing is left to do, or it cannot be opened. Of work: it cannot be opened any
/// more. Of collecting: it has its file.
struct ModelFinished {
  ModelOutcome outcome;
  std::vector<SummaryRow> rows;
  bool was_there = false;  ///< with all that was asked for, before this run
};

/// What an assignment came to.
using Report = std::variant<ModelOpened, UnitsWorked, RecordsMissing, ModelFinished>;

}  // namespace spectrace
