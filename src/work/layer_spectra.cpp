#include "layer_spectra.hpp"

#include <utility>

#include "spectrace/core/parallel.hpp"
#include "spectrace/core/stage_times.hpp"
#include "spectrace/measure/stages.hpp"
#include "spectrace/work/error_of.hpp"

namespace spectrace {

Record failed_record(std::string error) {
  Record record;
  record.error = std::move(error);
  return record;
}

namespace {

/// Leaves a unit in the middle because of a stop. No std::exception: nobody takes it for the unit's failure.
struct LeaveUnit {};

}  // namespace

std::optional<Record> measure_rows_unit(const OpenModel& model, const Unit& unit, Slicing slicing,
                                        const std::function<bool(double flops)>& go_on) {
  const RowsWork& work = *unit.of_rows();
  const Stage stage = stage_of(*work.analysis);
  const StageTimer timer(stage);
  Record record;
  try {
    const auto error = error_of("the " + work.analysis->name(), [&] {
      record = work.analysis->measure(model.description, model.store, slicing, work.rows, [&](double share) {
        if (!go_on(share * unit.flops)) throw LeaveUnit{};
      });
      const TensorInfo& tensor = *model.store.find(work.analysis->matrix(model.description).tensor);
      count_bytes(stage, tensor.size_bytes / static_cast<std::uint64_t>(tensor.shape[0]) *
                             static_cast<std::uint64_t>(work.rows.count));
      count_flops(stage, unit.flops);
    });
    return error ? failed_record(*error) : std::move(record);
  } catch (const LeaveUnit&) {
    return std::nullopt;
  }
}

LayerSpectra::LayerSpectra(const ModelDescription& model, const ModelPlan& plan, Slicing slicing,
                           std::vector<Task> tasks, Report report)
    : model_(model),
      plan_(plan),
      slicing_(slicing),
      tasks_(std::move(tasks)),
      report_(std::move(report)),
      records_(tasks_.size()) {}

void LayerSpectra::measure_at_once() {
  if (tasks_.empty()) return;
  {
    const Stage of_loop = stage_of(*plan_.units[tasks_.front().unit].analysis());
    const StageTimer timer(of_loop);
    parallel_for(static_cast<std::int64_t>(tasks_.size()), [&](std::int64_t task) {
      const auto i = static_cast<std::size_t>(task);
      const Stage own = stage_of(*plan_.units[tasks_[i].unit].analysis());
      if (own == of_loop) {
        records_[i] = record_of(tasks_[i]);
      } else {
        const TaskStageTimer moved(of_loop, own);
        records_[i] = record_of(tasks_[i]);
      }
    });
  }
  for (std::size_t i = 0; i < tasks_.size(); ++i)
    if (!records_[i].error.empty()) measure(i);
  num_measured_ = tasks_.size();
}

bool LayerSpectra::measure_beside() {
  while (num_measured_ < tasks_.size() && measure(num_measured_)) ++num_measured_;
  return num_measured_ == tasks_.size();
}

void LayerSpectra::measure_rest() {
  for (report_measured(); num_measured_ < tasks_.size(); report_measured()) {
    measure(num_measured_);
    ++num_measured_;
  }
}

void LayerSpectra::report_measured() {
  for (; num_reported_ < num_measured_; ++num_reported_)
    report_(tasks_[num_reported_].unit, std::move(records_[num_reported_]));
}

bool LayerSpectra::measure(std::size_t i) {
  const StageTimer timer(stage_of(*plan_.units[tasks_[i].unit].analysis()));
  records_[i] = record_of(tasks_[i]);
  return records_[i].error.empty();
}

Record LayerSpectra::record_of(const Task& task) const {
  const LayerWork& work = *plan_.units[task.unit].of_layer();
  const LoadedLayer& loaded = *task.layer;
  auto error = loaded.find_error(work.analysis->needs(model_));
  if (!error && work.analysis->needs_value_spectra()) error = loaded.values_error;
  Record record;
  if (!error)
    error = error_of("layer " + std::to_string(work.layer), [&] {
      record =
          work.analysis->measure(work.analysis->view(model_, loaded.matrices, loaded.sliced, slicing_, loaded.values));
      const double of_values = work.analysis->needs_value_spectra() ? value_spectra_flops(model_) : 0;
      count_flops(stage_of(*work.analysis), work.analysis->flops(model_) - of_values);
    });
  return error ? failed_record(std::move(*error)) : std::move(record);
}

}  // namespace spectrace
