#pragma once

#include <optional>
#include <vector>

#include "spectrace/plan/scheduler.hpp"
#include "spectrace/results/batch_sums.hpp"
#include "spectrace/results/earlier_results.hpp"
#include "spectrace/work/run_context.hpp"

namespace spectrace {

/// What is left of a model.
struct Opening {
  bool complete = false;                    ///< the results file is there and holds all that is asked for
  std::optional<ResultTree> finished = {};  ///< then: that file
  std::vector<OpenUnit> units = {};         ///< else: to be done
  std::size_t num_journalled = 0;
  double journalled_flops = 0;
  int stages = 1;  ///< ranks that shall share its layers
  SumsShape sums = {};
  /// What planning expects: ranks' seconds for the units, collecting among them; bytes of a rank at its peak; and
  /// whether the rates were measured on this machine.
  double expected_s = 0, expected_bytes = 0;
  bool is_calibrated = false;
};

/// Opens the model, tokenizes, holds everything against results and journal that are there, writes the preparation.
/// @throws InputError (model) if the model cannot be opened, (usage) if what is there does not match, (io) if the
/// output folder cannot be used.
Opening open_for_work(const RunContext& context, const ModelEntry& entry);

/// Results that are there must be of this checkpoint, these prompts and settings, as open_for_work demands; reads the
/// checkpoint where its files were touched since. @throws InputError (usage) naming what differs, or as
/// read_earlier_results does.
void expect_fitting_results(const Job& job, const ModelEntry& entry, const OpenModel& model,
                            const std::vector<PreparedSet>& sets);

}  // namespace spectrace
