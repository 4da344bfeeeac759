#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "spectrace/measure/quantity.hpp"

namespace spectrace {

/// A value of an attribute.
using AttributeValue = std::variant<std::string, std::int64_t, double>;

/// The format that docs/file-format.md describes.
inline constexpr const char* kConventions = "spectrace-2";

struct Dimension {
  std::string name;
  Coordinate values;
  std::string units;  ///< "1" for counts and names
  std::string long_name;
  std::size_t size() const;
};

/// float64 numbers, int64 numbers or UTF-8 texts.
using DatasetValues = std::variant<std::vector<double>, std::vector<std::int64_t>, std::vector<std::string>>;

struct Dataset {
  std::string name;
  std::vector<std::string> dims;  ///< names of dimensions of the same group; empty for a scalar
  std::string units;
  std::string long_name;
  DatasetValues values;  ///< row-major
  /// Its float64 values are not here: they are written, or read, in rows along the first dimension.
  bool in_rows = false;
};

/// A leaf group of a results file: every dataset has all its dimensions in the same group, as xarray asks for.
struct Group {
  std::string path;  ///< "/weights", "/prompts/test/statistics"
  std::vector<std::pair<std::string, AttributeValue>> attributes;
  std::vector<Dimension> dimensions;
  std::vector<Dataset> datasets;

  const Dataset* find(const std::string& name) const;
  const Dimension* find_dimension(const std::string& name) const;
};

/// Everything a results file holds, in the order it is written.
struct ResultTree {
  std::vector<std::pair<std::string, AttributeValue>> attributes;
  std::vector<Group> groups;

  const Group* find(const std::string& path) const;
  const AttributeValue* find_attribute(const std::string& name) const;
};

}  // namespace spectrace
