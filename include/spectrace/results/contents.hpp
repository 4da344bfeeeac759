#pragma once

#include <string>
#include <vector>

#include "spectrace/measure/analysis.hpp"

namespace spectrace {

/// A dataset that results may hold.
struct KnownDataset {
  std::string group;                   ///< "/weights", "/prompts/<set>", "/summary"; empty: each that has the dimension
  Quantity quantity;                   ///< of a dimension too, whose only one it is itself
  const Analysis* analysis = nullptr;  ///< whose it is; null: it is there whatever is measured

  bool is_dimension() const { return quantity.dims == std::vector<std::string>{quantity.name}; }
};

/// Every dataset that a <model>.h5 or a summary.h5 may hold: what `describe` and docs/file-format.md say. Statistics of
/// a prompt's quantity, which bear its name, are said with it.
const std::vector<KnownDataset>& known_datasets();

}  // namespace spectrace
