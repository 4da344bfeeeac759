#include "join_of_parts.hpp"

#include "layer_spectra.hpp"
#include "spectrace/core/stage_times.hpp"
#include "spectrace/measure/stages.hpp"
#include "spectrace/work/error_of.hpp"

namespace spectrace {

JoinOfParts::JoinOfParts(const OpenModel& model, const RowsAnalysis& analysis)
    : model_(model.description), analysis_(analysis), join_(analysis.join(model.description)), digests_(model) {}

bool JoinOfParts::add(std::size_t unit, const Record& record, const std::string& key, const RowsWork& part) {
  if (!analysis_.fits(record, model_, part.rows))
    throw InputError(ErrorKind::io, key + " in the journal is no part of the " + analysis_.name());
  units_.push_back(unit);
  if (!digests_.add(record, part)) return false;
  const StageTimer timer(stage_of(analysis_));
  if (!error_) error_ = error_of("the " + analysis_.name(), [&] { join_->add(record); });
  return true;
}

Record JoinOfParts::finish() {
  const StageTimer timer(stage_of(analysis_));
  Record record;
  if (!error_) error_ = error_of("the " + analysis_.name(), [&] { record = join_->finish(); });
  if (error_) return failed_record(*error_);
  count_flops(stage_of(analysis_), analysis_.join_flops(model_));
  return record;
}

}  // namespace spectrace
