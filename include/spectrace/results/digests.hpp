#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "spectrace/store/result_tree.hpp"

namespace spectrace {

/// Digests of the tensors that results are made of, by name.
class Digests {
 public:
  void add(const std::vector<std::string>& names, const std::vector<std::string>& digests);
  void add(const ResultTree& earlier);
  void add_other(const std::string& name) { others_.insert(name); }
  /// Tensors that were not the same everywhere.
  const std::set<std::string>& others() const { return others_; }

  /// The group /checkpoint.
  Group group() const;
  std::string sha256() const;

 private:
  std::map<std::string, std::string> digests_;
  std::set<std::string> others_;
};

}  // namespace spectrace
