#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "spectrace/measure/record.hpp"
#include "spectrace/plan/model_plan.hpp"
#include "spectrace/results/statistics.hpp"

namespace spectrace {

/// How large the sums of a model are: what a rank must know of them that has no part in the model.
struct SumsShape {
  std::vector<std::int64_t> num_slots;  ///< of each quantity of each set
  std::size_t num_units = 0;            ///< of the plan
  bool operator==(const SumsShape&) const = default;
};

/// Exact sums over the prompts of some batches of a model, by quantity and set, and which batches these are. Sums of
/// different batches add up to those of all of them.
struct BatchSums {
  explicit BatchSums(const SumsShape& shape);
  SumsShape shape() const;
  bool has(std::size_t unit) const { return units[unit] != 0; }

  std::vector<StatisticsSums> sums;  ///< in the order of the shape
  std::vector<std::int64_t> units;   ///< 1 for each that is among them, else 0
};

/// What sums are made of: every quantity of a plan's sets that has statistics, in the order in which sums have them.
class SummedQuantities {
 public:
  SummedQuantities(const ModelDescription& model, const ModelPlan& plan, Slicing slicing);

  const SumsShape& shape() const { return shape_; }
  /// A batch whose prompts all ran, or of which those that failed have NaN. @pre it is not among them yet.
  void add(std::size_t unit, const BatchWork& batch, const Record& record, BatchSums& sums) const;
  /// Calls visit(quantity, sums) for those of a set.
  template <typename Visit>
  void for_each_of(std::size_t set, const BatchSums& sums, Visit&& visit) const {
    for (std::size_t q = 0; q < quantities_.size(); ++q)
      if (quantities_[q].set == set) visit(*quantities_[q].quantity, sums.sums[q]);
  }

 private:
  struct OfSet {
    std::size_t set;
    const Quantity* quantity;
    std::vector<double> coordinates;  // along its last dimension, of one that is derived
  };
  std::vector<OfSet> quantities_;
  SumsShape shape_;
};

/// Bytes of such sums, about; of numbers whose size hardly changes from prompt to prompt.
std::int64_t sums_bytes(const SumsShape& shape);

}  // namespace spectrace
