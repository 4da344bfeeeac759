#include "group_copy.hpp"

#include "spectrace/results/layout.hpp"

namespace spectrace {

void read_large(const std::filesystem::path& from, Group& group) {
  for (Dataset& dataset : group.datasets) {
    auto* const values = std::get_if<std::vector<double>>(&dataset.values);
    if (values == nullptr || is_by_prompt(dataset) || !dataset.in_rows) continue;
    read_rows(from, group, {&dataset}, [&](const Dataset&, std::span<const double> rows) {
      values->insert(values->end(), rows.begin(), rows.end());
    });
    dataset.in_rows = false;
  }
}

void copy_group(const std::filesystem::path& from, Group group, ResultFileWriter& writer) {
  read_large(from, group);
  std::vector<const Dataset*> in_rows;
  for (Dataset& dataset : group.datasets) {
    if (!is_by_prompt(dataset)) continue;
    dataset.in_rows = true;
    std::get<std::vector<double>>(dataset.values).clear();
    in_rows.push_back(&dataset);
  }
  writer.add_group(group);
  read_rows(from, group, in_rows, [&](const Dataset& dataset, std::span<const double> rows) {
    writer.write_rows(group.path, dataset.name, rows);
  });
}

}  // namespace spectrace
