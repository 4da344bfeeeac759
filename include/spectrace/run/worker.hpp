#pragma once

#include <memory>
#include <optional>

#include "spectrace/core/json.hpp"
#include "spectrace/plan/scheduler.hpp"
#include "spectrace/run/run_context.hpp"

namespace spectrace {

/// Does one rank's assignments. Knows the shared folder, and of other ranks only those it shares layers with.
class Worker {
 public:
  explicit Worker(RunContext& context);
  ~Worker();

  /// Does it and says what came of it (an object; what it holds depends on the step, see conductor.cpp). What is wrong
  /// with the model is in the report. @throws InputError (io), std::exception for what ends the run.
  Json run(const Assignment& assignment);

 private:
  struct Opened;
  class StageEnds;
  Json do_assignment(const Assignment& assignment);
  Json open(std::size_t model);
  Json work(const Assignment& assignment);
  Json work_on_opened(const Assignment& assignment);
  Json collect(std::size_t model);
  Opened& opened(std::size_t model);

  RunContext& context_;
  std::unique_ptr<Opened> opened_;  // the model it had last
};

}  // namespace spectrace
