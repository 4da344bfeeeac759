#pragma once

#include <algorithm>
#include <array>
#include <string>
#include <string_view>

#include "spectrace/store/result_tree.hpp"

// What writer and reader of a results file agree on.

namespace spectrace {

/// Root's attribute over everything else in the file.
inline constexpr const char* kDigestAttribute = "content_sha256";

/// Attributes that are no part of the tree: HDF5's of dimension scales, NeXus's plot hints, and those that every
/// dataset has as members of its own.
inline bool is_reserved_attribute(std::string_view name) {
  static constexpr std::array<std::string_view, 9> names = {
      "CLASS", "NAME", "REFERENCE_LIST", "DIMENSION_LIST", "DIMENSION_LABELS", "NX_class", "signal", "axes", "default"};
  return std::find(names.begin(), names.end(), name) != names.end();
}

/// What is wrong with a group: a dataset whose dimension it has not, or whose number of values is not the product of
/// its dimensions' sizes; empty if nothing is.
std::string find_inconsistency(const Group& group);

}  // namespace spectrace
