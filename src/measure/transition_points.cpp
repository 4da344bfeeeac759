#include "spectrace/measure/transition_points.hpp"

#include <cmath>

#include "spectrace/core/floats.hpp"

namespace spectrace {

double l_star_trace(const std::vector<double>& mean_trace) {
  const std::size_t n = mean_trace.size();
  if (n < 2) return kNaN;
  double best = -1;
  std::size_t layer = 0;
  for (std::size_t l = 0; l < n; ++l) {
    const double slope = l == 0       ? mean_trace[1] - mean_trace[0]
                         : l == n - 1 ? mean_trace[n - 1] - mean_trace[n - 2]
                                      : (mean_trace[l + 1] - mean_trace[l - 1]) / 2;
    if (!std::isfinite(slope)) return kNaN;
    if (std::abs(slope) > best) {
      best = std::abs(slope);
      layer = l;
    }
  }
  return static_cast<double>(layer);
}

double l_star_entropy(const std::vector<double>& mean_entropy) {
  if (mean_entropy.empty()) return kNaN;
  const double first = mean_entropy.front(), last = mean_entropy.back(), middle = (first + last) / 2;
  if (!std::isfinite(middle)) return kNaN;
  for (std::size_t l = 0; l < mean_entropy.size(); ++l)
    if (last > first ? mean_entropy[l] >= middle : mean_entropy[l] <= middle) return static_cast<double>(l);
  return static_cast<double>(mean_entropy.size() / 2);
}

double l_star_sign_change(const std::vector<double>& mean_trace) {
  for (std::size_t l = 1; l + 1 < mean_trace.size(); ++l)
    if (mean_trace[l] - mean_trace[l - 1] > 0 && mean_trace[l + 1] - mean_trace[l] < 0) return static_cast<double>(l);
  return kNaN;
}

}  // namespace spectrace
