#pragma once

#include <atomic>
#include <functional>
#include <optional>
#include <vector>

#include "spectrace/measure/record.hpp"
#include "spectrace/plan/model_plan.hpp"
#include "spectrace/work/layer_stream.hpp"

namespace spectrace {

/// A record that says why its unit failed.
Record failed_record(std::string error);

/// Does a unit of rows; its record, or its error. `go_on` is told of flops that were done since the last call, and says
/// whether to go on: nothing if not. Rows need no layer.
std::optional<Record> measure_rows_unit(const OpenModel& model, const Unit& unit, Slicing slicing,
                                        const std::function<bool(double flops)>& go_on);

/// Layer units whose layers are loaded, on their way to being measured and reported. They are measured one after the
/// other by whichever thread, or all at once; reported by the computing thread alone, in their order.
class LayerSpectra {
 public:
  struct Task {
    std::size_t unit;  ///< index into plan.units
    const LoadedLayer* layer;
  };
  using Report = std::function<void(std::size_t unit, Record record)>;

  /// @pre all outlive it.
  LayerSpectra(const ModelDescription& model, const ModelPlan& plan, Slicing slicing, std::vector<Task> tasks,
               Report report);

  /// All of them, over the threads: what these find nothing to do for in one, they find in another. Those that failed
  /// are tried again, one after the other.
  void measure_at_once();
  /// One after the other until one fails: a thread beside the forward pass leaves it and those after it for later, when
  /// the memory is free again that it perhaps lacked. True if none is left.
  bool measure_beside();
  /// Those that are left, each reported as it is done.
  void measure_rest();
  /// Those that are measured and not yet reported.
  void report_measured();

 private:
  bool measure(std::size_t i);
  Record record_of(const Task& task) const;

  const ModelDescription& model_;
  const ModelPlan& plan_;
  const Slicing slicing_;
  const std::vector<Task> tasks_;
  const Report report_;
  std::vector<Record> records_;
  std::atomic<std::size_t> num_measured_ = 0;
  std::size_t num_reported_ = 0;
};

}  // namespace spectrace
