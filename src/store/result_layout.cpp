#include "result_layout.hpp"

namespace spectrace {

std::string find_inconsistency(const Group& group) {
  for (const auto& dataset : group.datasets) {
    const std::string place = group.path + "/" + dataset.name;
    std::size_t num_slots = 1;
    for (const auto& name : dataset.dims) {
      const Dimension* dimension = group.find_dimension(name);
      if (dimension == nullptr) return place + " has the dimension '" + name + "', its group has not";
      num_slots *= dimension->size();
    }
    if (dataset.in_rows) continue;
    const std::size_t num_values = std::visit([](const auto& values) { return values.size(); }, dataset.values);
    if (num_values != num_slots)
      return place + " has " + std::to_string(num_values) + " values, its dimensions " + std::to_string(num_slots);
  }
  return {};
}

}  // namespace spectrace
