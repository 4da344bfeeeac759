#pragma once

#include <string>
#include <vector>

#include "spectrace/store/result_tree.hpp"

namespace spectrace {

struct DiffTolerance {
  double rtol = 0.0;  ///< |a - b| <= atol + rtol * |b|
  double atol = 0.0;
};

/// One line for each thing that differs: a group, dimension, dataset or attribute that only one has, other shapes,
/// other values (how many, the largest difference and where it is, by coordinate). Two NaN are equal. content_sha256 is
/// left out.
std::vector<std::string> diff_trees(const ResultTree& a, const ResultTree& b, const DiffTolerance& tolerance);

}  // namespace spectrace
