#pragma once

#include <vector>

namespace spectrace {

/// Section 6 of docs/quantities.md, from means over prompts by layer. NaN where there is no such layer.
double l_star_trace(const std::vector<double>& mean_trace);
double l_star_entropy(const std::vector<double>& mean_entropy);
double l_star_sign_change(const std::vector<double>& mean_trace);

}  // namespace spectrace
