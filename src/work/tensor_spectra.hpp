#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "spectrace/measure/record.hpp"
#include "spectrace/plan/model_plan.hpp"
#include "spectrace/plan/open_model.hpp"

namespace spectrace {

/// Does units of stored matrices, which need no layer: those that come in rows alone, of the others as many side by
/// side as keep the threads busy and fit into the memory.
class TensorSpectra {
 public:
  struct Events {
    /// Why the unit cannot be done.
    std::function<std::optional<std::string>(std::size_t unit)> find_refusal;
    /// Units in their order, by the calling thread.
    std::function<void(std::size_t unit, Record record)> on_done;
    /// Flops of a unit that is under work.
    std::function<void(double flops)> on_progress;
    /// Asked by all threads.
    std::function<bool()> stop_requested;
  };

  /// `bytes_limit`: of matrices under work side by side. @pre all outlive it.
  TensorSpectra(const OpenModel& model, const ModelPlan& plan, std::int64_t bytes_limit, Events events)
      : model_(model), plan_(plan), bytes_limit_(bytes_limit), events_(std::move(events)) {}

  /// Takes the units off the front as they are done. False if a stop came first.
  bool run(std::vector<std::size_t>& units);

 private:
  std::size_t window(const std::vector<std::size_t>& units) const;
  bool run_window(std::vector<std::size_t>& units, std::size_t count);
  bool run_in_rows(std::size_t unit);
  void report(std::size_t unit, Record record, double flops) const;
  Record record_of(const Unit& unit, const std::function<void(double share)>& on_progress) const;

  const OpenModel& model_;
  const ModelPlan& plan_;
  const std::int64_t bytes_limit_;
  const Events events_;
};

}  // namespace spectrace
