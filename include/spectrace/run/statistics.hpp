#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "spectrace/comm/reducer.hpp"
#include "spectrace/measure/record.hpp"

namespace spectrace {

/// Statistics of one quantity over the prompts of a set: shape [6, slots], in the order of statistic_names().
/// A value that is not finite is counted, never averaged in.
struct QuantityStatistics {
  std::int64_t num_slots = 0;
  std::vector<double> values;  // [6, num_slots]: count, nonfinite, mean, std, min, max
};

/// Reduces over ranks. Each rank gives the prompts it owns: `local` holds arrays of [prompts, slots...] (all of the
/// same num_slots). num_failed prompts have no array anywhere and count as not finite. Same bits for any number of
/// ranks and any order. Collective; memory is bounded whatever num_slots is.
QuantityStatistics reduce_statistics(const std::vector<const Array*>& local, std::int64_t num_slots,
                                     std::int64_t num_failed, Reducer& reducer);

/// Section 6 of docs/quantities.md, from means over prompts by layer. NaN where there is no such layer.
double l_star_trace(const std::vector<double>& mean_trace);
double l_star_entropy(const std::vector<double>& mean_entropy);
double l_star_sign_change(const std::vector<double>& mean_trace);

}  // namespace spectrace
