#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "spectrace/comm/communicator.hpp"
#include "spectrace/core/stopwatch.hpp"

namespace spectrace {

/// Where a sweep stands, shown by root: a bar on a terminal, a line every 30 seconds elsewhere, and progress.json for
/// pollers. The other ranks send root what they have done, without ever waiting for it.
class Progress {
 public:
  Progress(Communicator& communicator, std::filesystem::path json_path, std::size_t num_models);
  ~Progress();

  /// A model begins: `total` and `done` in the units' flops.
  void start_model(std::size_t index, const std::string& name, double total, double done);
  /// This rank has done so much more.
  void add(double flops);
  /// This rank is through with its share and says `outcome`. Returns everyone's, in the order of ranks, once all are
  /// through; waits without using the core. Collective.
  std::vector<std::string> finish_share(const std::string& outcome);
  /// The end of the run: the last progress.json. Root only writes.
  void finish_run(const std::string& state);

 private:
  void collect();
  void show(bool now);
  void write_json(const std::string& state);
  void clear_line();

  Communicator& communicator_;
  std::filesystem::path json_path_;
  std::size_t num_models_, model_index_ = 0;
  std::string model_name_;
  double total_ = 0, done_ = 0, done_at_start_ = 0;
  double unsent_ = 0;
  bool terminal_ = false, line_shown_ = false;
  Stopwatch run_watch_, model_watch_, shown_watch_, json_watch_, sent_watch_;
};

}  // namespace spectrace
