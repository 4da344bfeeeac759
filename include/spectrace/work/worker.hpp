#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "spectrace/core/json.hpp"
#include "spectrace/plan/scheduler.hpp"
#include "spectrace/work/run_context.hpp"

namespace spectrace {

/// What a rank is told to do.
struct Order {
  Assignment assignment;
  std::vector<std::string> journal_files;  ///< of collecting: names of what ranks of this run have written
};

/// Does one rank's assignments. Knows the shared folder, and of other ranks only those it shares layers with.
class Worker {
 public:
  explicit Worker(RunContext& context);
  ~Worker();

  /// Does it and says what came of it (an object; what it holds depends on the step, see conductor.cpp). What is wrong
  /// with the model is in the report. @throws InputError (io), std::exception for what ends the run.
  Json run(const Order& order);

 private:
  struct Opened;
  class StageEnds;
  Json carry_out(const Order& order);
  Json open(std::size_t model);
  Json work(const Assignment& assignment);
  Json work_on_opened(const Assignment& assignment);
  Json collect(const Order& order);
  Opened& opened(std::size_t model);

  RunContext& context_;
  std::unique_ptr<Opened> opened_;  // the model it had last
};

}  // namespace spectrace
