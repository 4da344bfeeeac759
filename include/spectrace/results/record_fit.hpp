#pragma once

#include <string>

#include "spectrace/measure/record.hpp"
#include "spectrace/model/description.hpp"
#include "spectrace/plan/model_plan.hpp"

namespace spectrace {

/// Keys of the journal's notes that hold a rank's report begin so.
inline constexpr const char* kReportKey = "report/";

/// Why a record of the journal is not what the unit leaves there: arrays, shapes or texts that are absent or others
/// ("array 'trace' is absent"). Empty if it is, and for a unit that failed. A checksum says that a record is what was
/// written, not that this program wrote it; who collects it relies on its shapes.
std::string find_misfit(const Record& record, const Unit& unit, const ModelDescription& model, const ModelPlan& plan,
                        Slicing slicing);

/// The same of a batch in the middle of the layers: hidden states, and what was measured so far.
std::string find_state_misfit(const Record& record, const Unit& unit, const ModelDescription& model,
                              const ModelPlan& plan);

/// The same of any record of the journal: what it says of the tensors that it was made of, or of a rank's work.
std::string find_misfit(const Record& record, const std::string& key);

}  // namespace spectrace
