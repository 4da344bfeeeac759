#include "spectrace/results/batch_sums.hpp"

#include <numeric>

#include "spectrace/core/error.hpp"
#include "spectrace/results/assembly.hpp"

namespace spectrace {
namespace {

std::vector<double> coordinates_of(const Chosen& chosen, const Quantity& quantity, const ModelDescription& model,
                                   Slicing slicing) {
  if (quantity.derived.from.empty()) return {};
  for (const auto& dimension : chosen.analysis->dimensions({model, slicing, chosen.settings}))
    if (dimension.info.name == quantity.dims.back()) return std::get<std::vector<double>>(dimension.values);
  SPECTRACE_ASSERT(false);
  return {};
}

}  // namespace

BatchSums::BatchSums(const SumsShape& shape) : units(shape.num_units, 0) {
  for (const std::int64_t num_slots : shape.num_slots) sums.emplace_back(num_slots);
}

SumsShape BatchSums::shape() const {
  SumsShape shape{.num_slots = {}, .num_units = units.size()};
  for (const StatisticsSums& of_quantity : sums) shape.num_slots.push_back(of_quantity.num_slots());
  return shape;
}

SummedQuantities::SummedQuantities(const ModelDescription& model, const ModelPlan& plan, Slicing slicing) {
  shape_.num_units = plan.units.size();
  for (std::size_t set = 0; set < plan.sets.size(); ++set)
    for (const Chosen& chosen : plan.sets[set].analyses) {
      const Extents extents = chosen.extents(model, slicing);
      for (const Quantity* quantity : chosen.quantities()) {
        if (!quantity->has_statistics) continue;
        quantities_.push_back({set, quantity, coordinates_of(chosen, *quantity, model, slicing)});
        shape_.num_slots.push_back(num_values(*quantity, extents, "prompt"));
      }
    }
}

void SummedQuantities::add(std::size_t unit, const BatchWork& batch, const Record& record, BatchSums& sums) const {
  SPECTRACE_ASSERT(sums.units[unit] == 0 && record.error.empty());
  sums.units[unit] = 1;
  for (std::size_t q = 0; q < quantities_.size(); ++q) {
    if (quantities_[q].set != batch.set) continue;
    const Quantity& quantity = *quantities_[q].quantity;
    StatisticsSums& target = sums.sums[q];
    if (quantity.derived.from.empty())
      target.add(record.arrays.at(quantity.name));
    else
      for_each_derived(quantity, record.arrays.at(quantity.derived.from), quantities_[q].coordinates,
                       [&](const Array& derived) { target.add(derived); });
  }
}

std::int64_t sums_bytes(const SumsShape& shape) {
  constexpr std::int64_t kOfSlot = 200, kOfUnit = 8;
  return kOfSlot * std::accumulate(shape.num_slots.begin(), shape.num_slots.end(), std::int64_t{0}) +
         kOfUnit * static_cast<std::int64_t>(shape.num_units);
}

}  // namespace spectrace
