#pragma once

#include <string>
#include <utility>
#include <vector>

#include "spectrace/plan/scheduler.hpp"

namespace spectrace {

/// What a rank is told to do.
struct Order {
  Assignment assignment;
  /// Of collecting, what the ranks of this run have told: names of the files that they have written, what the batches
  /// in their sums were made of, and whether these sums come (SumsStore).
  std::vector<std::string> journal_files;
  std::vector<std::pair<std::string, std::string>> tensors{};
  bool sums_come = false;
};

}  // namespace spectrace
