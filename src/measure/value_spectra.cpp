#include "spectrace/measure/value_spectra.hpp"

#include <map>

#include "spectrace/core/parallel.hpp"
#include "spectrace/numerics/singular_values.hpp"
#include "spectrace/numerics/spectral_summary.hpp"

namespace spectrace {

std::vector<ValueSpectrum> value_spectra(const ModelDescription& model, const Tensor& sliced_w_v, Slicing slicing) {
  const std::vector<RowRange> rows_of_heads = value_rows(model, sliced_w_v, slicing);
  // Heads of one group share a slice: solve each distinct one once.
  std::map<std::int64_t, std::size_t> slot_of_row;
  std::vector<RowRange> distinct;
  for (const RowRange rows : rows_of_heads)
    if (slot_of_row.emplace(rows.first, distinct.size()).second) distinct.push_back(rows);

  std::vector<ValueSpectrum> solved(distinct.size());
  parallel_for(static_cast<std::int64_t>(distinct.size()), [&](std::int64_t i) {
    const auto slot = static_cast<std::size_t>(i);
    const Tensor slice = sliced_w_v.narrow(0, distinct[slot].first, distinct[slot].count);
    auto singular = singular_values(slice);
    const auto levels = std::make_shared<const ValueLevels>(singular.values, slice.size(1));
    solved[slot] = {std::move(singular.values), singular.error_bound, entry_moments(slice).frobenius_norm, levels};
  });

  std::vector<ValueSpectrum> per_head;
  for (const RowRange rows : rows_of_heads) per_head.push_back(solved[slot_of_row.at(rows.first)]);
  return per_head;
}

double value_spectra_flops(const ModelDescription& model) {
  return static_cast<double>(model.num_kv_heads) * singular_values_flops(model.head_dim, model.hidden_size);
}

}  // namespace spectrace
