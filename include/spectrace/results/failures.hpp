#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "spectrace/store/result_tree.hpp"

namespace spectrace {

/// Of a group some of whose units failed: how many, and of a group of weights or of a set as a whole, why, each
/// different error a line.
inline constexpr const char *kFailedUnitsAttribute = "failed_units", *kErrorAttribute = "error";
bool has_failed_units(const Group& group);
std::int64_t num_failed_units(const Group& group);

/// What the groups of a tree say of failed units: how many in all, and every different error of weights and of sets as
/// wholes.
std::int64_t num_failed_units(const ResultTree& tree);
std::vector<std::string> group_errors_in(const ResultTree& tree);
/// Which prompts of which sets failed, a line for each set of the tree.
std::vector<std::string> prompt_errors_in(const ResultTree& tree);

/// What failed of one set, by analysis: they may come from different jobs.
class SetFailures {
 public:
  SetFailures() = default;
  /// As results hold it; nothing of a set that they have not.
  SetFailures(const ResultTree& tree, const std::string& set);

  /// What a job found. `errors`: of every prompt, empty if it ran. The analyses were measured in the same units.
  void add(const std::vector<std::string>& analyses, const std::vector<std::string>& errors, std::int64_t failed_units);
  /// Of analyses that are made again.
  void forget(const std::vector<std::string>& analyses);

  bool has_failed_units_of(const std::string& analysis) const;
  /// Of every prompt its different errors, in the catalogue's order of analyses.
  std::vector<std::string> of_prompts() const;
  /// Of every prompt, as JSON, the errors by analysis, where one analysis has another than the others; empty if no
  /// prompt has such errors: of_prompts() says it all then.
  std::vector<std::string> by_analysis() const;
  /// Those of the set's group; none if no unit failed.
  std::vector<std::pair<std::string, AttributeValue>> attributes() const;

 private:
  std::map<std::string, std::vector<std::string>> errors_;                          // by analysis, of every prompt
  std::vector<std::pair<std::vector<std::string>, std::int64_t>> failed_together_;  // analyses, units
};

}  // namespace spectrace
