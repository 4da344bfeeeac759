#include "spectrace/measure/unembedding.hpp"

#include <algorithm>
#include <cmath>

#include "spectrace/checkpoint/tensor_digests.hpp"
#include "spectrace/numerics/exact_sum.hpp"
#include "spectrace/numerics/singular_values.hpp"
#include "spectrace/numerics/spectral_summary.hpp"

namespace spectrace {
namespace {

/// Rows a block: about 32 MiB in float64, and not so flat that the factorization's R is updated more often than needed.
std::int64_t wanted_rows(std::int64_t num_columns) {
  return std::max(num_columns, (std::int64_t{1} << 22) / std::max<std::int64_t>(1, num_columns));
}

/// Whole segments, so that the digest of the tensor sees all rows. How rows are cut has no effect on the bits of the
/// singular values (TallSingularValues), nor on the norms of rows and their exact sums.
std::int64_t rows_per_block(const TensorInfo& tensor) {
  const std::int64_t segment = segment_rows(tensor), wanted = wanted_rows(tensor.shape[1]);
  return (wanted + segment - 1) / segment * segment;
}

Array scalar(double value) { return Array{{}, {value}}; }

}  // namespace

Record measure_unembedding(const ModelDescription& model, const TensorStore& store, Slicing slicing,
                           const std::function<void(double share)>& on_progress) {
  const TensorInfo* info = store.find(model.embedding.unembedding.tensor);
  SPECTRACE_ASSERT(info != nullptr);  // describe_model has seen it
  const std::int64_t num_rows = info->shape[0], num_columns = info->shape[1];

  TallSingularValues tall(num_columns);
  std::vector<double> norms;
  norms.reserve(static_cast<std::size_t>(num_rows));
  ExactSum<2> squares;
  const bool is_double = info->type == StorageType::float64;
  const std::int64_t height = std::min(num_rows, rows_per_block(*info));
  const Tensor buffer = at::empty({height, num_columns}, is_double ? at::kDouble : at::kFloat);
  for (std::int64_t first = 0; first < num_rows; first += height) {
    const Tensor block = buffer.narrow(0, 0, std::min(height, num_rows - first));
    store.read_rows(*info, first, block);
    if (const Tensor kept = rounded(block, slicing); !kept.is_same(block)) block.copy_(kept);
    tall.add_rows(block);
    for (const double norm : row_norms(block)) {
      norms.push_back(norm);
      squares.add(norm);
    }
    if (on_progress) on_progress(static_cast<double>(block.size(0)) / static_cast<double>(num_rows));
  }

  const SingularValues singular = tall.finish();
  const double frobenius = std::sqrt(squares.round());
  const auto summary = summarize_spectrum(singular.values, frobenius, num_rows, num_columns);
  ExactSum<1> norm_sum;
  for (const double norm : norms) norm_sum.add(norm);
  const Moments row_moments = moments(num_rows, norm_sum, squares);

  Record record;
  record.arrays["singular_values"] = {{static_cast<std::int64_t>(singular.values.size())}, singular.values};
  record.arrays["row_norm"] = {{num_rows}, std::move(norms)};
  record.arrays["singular_value_error"] = scalar(singular.error_bound);
  record.arrays["spectral_norm"] = scalar(summary.spectral_norm);
  record.arrays["frobenius_norm"] = scalar(frobenius);
  record.arrays["effective_rank"] = scalar(summary.effective_rank);
  record.arrays["row_norm_mean"] = scalar(row_moments.mean);
  record.arrays["row_norm_std"] = scalar(row_moments.std);
  record.arrays["spectral_per_sqrt_vocab"] = scalar(summary.spectral_norm / std::sqrt(static_cast<double>(num_rows)));
  return record;
}

std::int64_t unembedding_workspace_bytes(std::int64_t num_rows, std::int64_t num_columns) {
  const std::int64_t block = std::min(num_rows, wanted_rows(num_columns)) * num_columns * 4;  // float32 as a rule
  return block + singular_values_bytes(num_rows, num_columns) +
         num_rows * 24;  // norms of rows, and what is made of them
}

}  // namespace spectrace
