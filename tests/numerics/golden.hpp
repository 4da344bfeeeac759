#pragma once

#include <cmath>
#include <filesystem>
#include <limits>
#include <string>
#include <vector>

#include "spectrace/core/json.hpp"

namespace spectrace {

/// The cases of tests/data/numerics/<name>, made by make_golden.py there.
inline JsonNode golden(const std::string& name) {
  return JsonNode::parse_file(std::filesystem::path(SPECTRACE_SOURCE_DIR) / "tests/data/numerics" / name,
                              ErrorKind::io);
}

/// JSON has no NaN and infinity: they stand there as text.
inline double golden_number(const JsonNode& node) {
  if (!node.is_string()) return node.as_double();
  if (node.as_string() == "nan") return std::numeric_limits<double>::quiet_NaN();
  return node.as_string() == "inf" ? HUGE_VAL : -HUGE_VAL;
}

inline std::vector<double> golden_numbers(const JsonNode& node) {
  std::vector<double> numbers;
  node.for_each([&](const JsonNode& element) { numbers.push_back(golden_number(element)); });
  return numbers;
}

/// The distance from |x| to the next double.
inline double ulp(double x) { return std::nextafter(std::abs(x), HUGE_VAL) - std::abs(x); }

}  // namespace spectrace
