#include "spectrace/measure/weight_spectra.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <string>

#include "spectrace/core/parallel.hpp"
#include "spectrace/numerics/numerical_error.hpp"
#include "spectrace/numerics/singular_values.hpp"
#include "spectrace/numerics/spectral_summary.hpp"

namespace spectrace {
namespace {

/// Writes the summary of one matrix into slot `slot` of arrays that hold one number a matrix.
void store_summary(Record& record, std::size_t slot, const SpectralSummary& summary) {
  record.arrays["spectral_norm"].values[slot] = summary.spectral_norm;
  record.arrays["frobenius_norm"].values[slot] = summary.frobenius_norm;
  record.arrays["effective_rank"].values[slot] = summary.effective_rank;
  record.arrays["stable_rank"].values[slot] = summary.stable_rank;
  record.arrays["condition_number"].values[slot] = summary.condition_number;
}

void make_arrays(Record& record, std::initializer_list<const char*> names, const std::vector<std::int64_t>& shape) {
  for (const char* name : names) record.arrays[name] = Array::filled_with_nan(shape);
}

void store_values(Array& array, std::size_t slot, const std::vector<double>& values) {
  const auto width = static_cast<std::size_t>(array.shape.back());
  std::copy(values.begin(), values.end(), array.values.begin() + static_cast<std::ptrdiff_t>(slot * width));
}

/// Rows (or columns, for W_O) of one head's slice.
Tensor head_slice(const ModelDescription& model, const SlicedWeights& weights, std::size_t matrix, std::int64_t head) {
  const Tensor& w = weights.matrices[matrix];
  const std::int64_t d = model.head_dim;
  switch (matrix) {
    case 0: return w.narrow(0, head * d, d);
    case 1: return w.narrow(0, static_cast<std::int64_t>(model.kv_head_of(QueryHead{head})) * d, d);
    case 2: {
      const RowRange rows = weights.value_rows[static_cast<std::size_t>(head)];
      return w.narrow(0, rows.first, rows.count);
    }
    default: return w.narrow(1, head * d, d);
  }
}

/// Says of which matrix what the solver throws is.
template <typename Solve>
auto of_matrix(const std::string& matrix, const Solve& solve) {
  try {
    return solve();
  } catch (const NumericalError& error) {
    throw NumericalError(matrix + ": " + error.what());
  }
}

std::string head_name(std::size_t matrix, std::int64_t head) {
  return std::string(kMatrixNames[matrix]) + " of head " + std::to_string(head);
}

}  // namespace

std::vector<ValueSpectrum> value_spectra(const SlicedWeights& weights) {
  // Heads of one group share a slice: solve each distinct one once.
  std::map<std::int64_t, std::size_t> slot_of_row;
  std::vector<RowRange> distinct;
  for (const RowRange rows : weights.value_rows)
    if (slot_of_row.emplace(rows.first, distinct.size()).second) distinct.push_back(rows);

  std::vector<ValueSpectrum> solved(distinct.size());
  parallel_for(static_cast<std::int64_t>(distinct.size()), [&](std::int64_t i) {
    const auto slot = static_cast<std::size_t>(i);
    const Tensor slice = weights.matrices[2].narrow(0, distinct[slot].first, distinct[slot].count);
    auto singular = singular_values(slice);
    const auto levels = std::make_shared<const ValueLevels>(singular.values, slice.size(1));
    solved[slot] = {std::move(singular.values), singular.error_bound, entry_moments(slice).frobenius_norm, levels};
  });

  std::vector<ValueSpectrum> per_head;
  for (const RowRange rows : weights.value_rows) per_head.push_back(solved[slot_of_row.at(rows.first)]);
  return per_head;
}

Record measure_matrices(const SlicedWeights& weights) {
  std::int64_t index_size = 0;
  for (const Tensor& w : weights.matrices) index_size = std::max(index_size, std::min(w.size(0), w.size(1)));

  Record record;
  record.arrays["singular_values"] = Array::filled_with_nan({4, index_size});
  make_arrays(record,
              {"num_singular_values", "singular_value_error", "spectral_norm", "frobenius_norm", "effective_rank",
               "stable_rank", "condition_number", "numerical_rank", "entry_mean", "entry_std"},
              {4});

  struct Solved {
    SingularValues singular;
    EntryMoments entries;
  };
  std::array<Solved, 4> solved;
  // The largest ones first: the others fill the gaps.
  std::array<std::size_t, 4> order = {0, 1, 2, 3};
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return std::min(weights.matrices[a].size(0), weights.matrices[a].size(1)) >
           std::min(weights.matrices[b].size(0), weights.matrices[b].size(1));
  });
  parallel_for(4, [&](std::int64_t i) {
    const std::size_t slot = order[static_cast<std::size_t>(i)];
    solved[slot] = of_matrix(kMatrixNames[slot], [&] {
      return Solved{singular_values(weights.matrices[slot]), entry_moments(weights.matrices[slot])};
    });
  });

  for (std::size_t i = 0; i < 4; ++i) {
    const auto& [singular, entries] = solved[i];
    const auto summary = summarize_spectrum(singular.values, entries.frobenius_norm, weights.matrices[i].size(0),
                                            weights.matrices[i].size(1));
    store_values(record.arrays["singular_values"], i, singular.values);
    store_summary(record, i, summary);
    record.arrays["numerical_rank"].values[i] = summary.numerical_rank;
    record.arrays["num_singular_values"].values[i] = static_cast<double>(singular.values.size());
    record.arrays["singular_value_error"].values[i] = singular.error_bound;
    record.arrays["entry_mean"].values[i] = entries.mean;
    record.arrays["entry_std"].values[i] = entries.std;
  }
  return record;
}

Record measure_heads(const ModelDescription& model, const SlicedWeights& weights, Slicing slicing,
                     const std::vector<ValueSpectrum>& values) {
  const std::int64_t heads = model.num_heads;
  Record record;
  record.arrays["singular_values"] = Array::filled_with_nan({4, heads, head_index_size(model, slicing)});
  make_arrays(record, {"spectral_norm", "frobenius_norm", "effective_rank", "stable_rank", "condition_number"},
              {4, heads});

  // W_V is solved already; W_K once a key/value head, copied to the query heads that use it.
  struct Solved {
    std::vector<double> singular;
    SpectralSummary summary;
  };
  std::vector<Solved> solved(static_cast<std::size_t>(4 * heads));
  const auto group_of = [&](std::int64_t h) { return static_cast<std::int64_t>(model.kv_head_of(QueryHead{h})); };
  const auto is_first_of_group = [&](std::int64_t h) { return h == 0 || group_of(h) != group_of(h - 1); };
  parallel_for(4 * heads, [&](std::int64_t task) {
    const auto matrix = static_cast<std::size_t>(task / heads);
    const std::int64_t head = task % heads;
    if (matrix == 1 && !is_first_of_group(head)) return;
    const Tensor slice = head_slice(model, weights, matrix, head);
    auto& slot = solved[static_cast<std::size_t>(task)];
    const auto& value = values[static_cast<std::size_t>(head)];
    double frobenius = value.frobenius_norm;
    slot.singular = value.singular_values;
    if (matrix != 2)
      of_matrix(head_name(matrix, head), [&] {
        slot.singular = singular_values(slice).values;
        frobenius = entry_moments(slice).frobenius_norm;
      });
    slot.summary = summarize_spectrum(slot.singular, frobenius, slice.size(0), slice.size(1));
  });
  for (std::int64_t h = 1; h < heads; ++h)
    if (!is_first_of_group(h))
      solved[static_cast<std::size_t>(heads + h)] = solved[static_cast<std::size_t>(heads + h - 1)];

  for (std::size_t slot = 0; slot < solved.size(); ++slot) {
    store_values(record.arrays["singular_values"], slot, solved[slot].singular);
    store_summary(record, slot, solved[slot].summary);
  }
  return record;
}

std::int64_t weight_spectra_workspace_bytes(const ModelDescription& model, std::int64_t num_layers) {
  const std::int64_t d = model.head_dim, queries = model.num_heads * d, keys = model.num_kv_heads * d;
  std::array<std::int64_t, 4> bytes = {
      singular_values_bytes(queries, model.hidden_size), singular_values_bytes(keys, model.hidden_size),
      singular_values_bytes(keys, model.hidden_size), singular_values_bytes(model.hidden_size, queries)};
  std::sort(bytes.rbegin(), bytes.rend());
  std::int64_t sum = 0, left = num_threads();
  for (const std::int64_t one : bytes) {
    const std::int64_t at_once = std::min(num_layers, left);
    sum += at_once * one;
    left -= at_once;
  }
  return sum;
}

}  // namespace spectrace
