#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "spectrace/plan/scheduler.hpp"
#include "spectrace/work/order.hpp"
#include "spectrace/work/pass.hpp"
#include "spectrace/work/report.hpp"
#include "spectrace/work/run_context.hpp"

namespace spectrace {

/// Does one rank's assignments. Knows the shared folder, and of other ranks only those it shares layers with.
class Worker {
 public:
  explicit Worker(RunContext& context);
  ~Worker();

  /// Does it and says what came of it. What is wrong with the model is in the report.
  /// @throws InputError (io), InternalError and other std::exceptions for what ends the run (work/error_of.hpp).
  Report run(const Order& order);

 private:
  struct Opened;
  class StageEnds;
  Report carry_out(const Order& order);
  Report open(std::size_t model);
  Report work(const Assignment& assignment);
  Report work_on_opened(const Assignment& assignment);
  Report collect(const Order& order);
  PassOptions options_of(const Assignment& assignment, Opened& opened) const;
  /// `num_units` counts those that are done.
  PassEvents events_of(Opened& opened, std::size_t& num_units, UnitsWorked& worked);
  void add_to_sums(Opened& opened, std::size_t index, const Record& record, UnitsWorked& worked);
  Opened& opened(std::size_t model);

  RunContext& context_;
  std::unique_ptr<Opened> opened_;  // the model it had last
};

}  // namespace spectrace
