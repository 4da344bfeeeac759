#include "spectrace/measure/stored_spectrum.hpp"

#include <algorithm>
#include <memory>
#include <utility>

#include "matrix_spectra.hpp"
#include "rows_spectrum.hpp"
#include "spectrace/checkpoint/tensor_digests.hpp"
#include "spectrace/core/error.hpp"

namespace spectrace {
namespace {

/// From here on a tall matrix is read in blocks of rows, as W_U is, instead of whole: 16 MiB in float32.
constexpr std::int64_t kLeastElementsInRows = std::int64_t{1} << 22;
constexpr std::int64_t kLeastHeightInRows = 3;

bool is_of_16_bits(const StoredMatrix& matrix) {
  return matrix.type == StorageType::bfloat16 || matrix.type == StorageType::float16;
}
at::ScalarType kept_type(const StoredMatrix& matrix) {
  return matrix.type == StorageType::bfloat16 ? at::kBFloat16 : at::kHalf;
}
ComputeType type_to_read(const StoredMatrix& matrix) {
  return matrix.exceeds_float32 ? ComputeType::float64 : ComputeType::float32;
}

std::unique_ptr<RowsWay> rows_way_of(const StoredMatrix& matrix) {
  return way_to_rows_spectrum(matrix.rows, matrix.columns, is_of_16_bits(matrix));
}

/// Rows a block, of about 16 MiB and more.
std::int64_t rows_at_once(const StoredMatrix& matrix) {
  return std::max(matrix.columns, kLeastElementsInRows / matrix.columns);
}

/// A whole matrix: 16-bit numbers stay what they are, since whoever takes its spectrum widens them.
Tensor read_whole(const TensorStore& store, const TensorInfo& info, const StoredMatrix& matrix, std::int64_t rows,
                  std::int64_t columns) {
  if (!matrix.slice) return store.read(info, type_to_read(matrix), Widening::later).reshape({rows, columns});
  const Tensor one = at::empty({1, rows, columns}, scalar_type(type_to_read(matrix)));
  store.read_rows(info, *matrix.slice, one);
  return one[0];
}

Tensor read(const TensorStore& store, const TensorInfo& info, const StoredMatrix& matrix) {
  if (!matrix.cut) return read_whole(store, info, matrix, matrix.rows, matrix.columns);
  const MatrixCut& cut = *matrix.cut;
  const Tensor whole = read_whole(store, info, matrix, cut.stored_rows, cut.stored_columns);
  const std::int64_t past_last = cut.first_column + (matrix.columns - 1) * cut.column_step + 1;
  return whole.narrow(0, cut.first_row, matrix.rows)
      .slice(1, cut.first_column, past_last, cut.column_step)
      .contiguous();
}

Record measure_in_rows(const TensorStore& store, const TensorInfo& info, const StoredMatrix& matrix,
                       const std::function<void(double share)>& on_progress) {
  const auto way = rows_way_of(matrix);
  const auto spectrum = way->start();
  EntryMomentsOfRows entries;
  // Whole segments, so that the tensor's digest sees all rows.
  const std::int64_t segment = segment_rows(info);
  const std::int64_t height = std::min(matrix.rows, (rows_at_once(matrix) + segment - 1) / segment * segment);
  std::vector<std::int64_t> shape = info.shape;
  shape.front() = height;
  const Tensor buffer = at::empty(shape, at::kFloat);
  for (std::int64_t first = 0; first < matrix.rows; first += height) {
    const Tensor read = buffer.narrow(0, 0, std::min(height, matrix.rows - first));
    store.read_rows(info, first, read);
    const Tensor block = read.reshape({read.size(0), matrix.columns});
    entries.add_rows(block);
    spectrum->add_rows(way->takes_16_bits() ? block.to(kept_type(matrix)) : block);
    if (on_progress) on_progress(static_cast<double>(read.size(0)) / static_cast<double>(matrix.rows));
  }
  Record record;
  make_spectrum_arrays(record, {}, matrix.num_singular_values());
  store_spectrum(record, 0, {matrix.rows, matrix.columns}, spectrum->finish(), entries.finish());
  return record;
}

}  // namespace

Record stored_spectrum(const TensorStore& store, const StoredMatrix& matrix,
                       const std::function<void(double share)>& on_progress) {
  const TensorInfo* info = store.find(matrix.tensor);
  SPECTRACE_ASSERT(info != nullptr);  // the plan was made of the same header
  if (comes_in_rows(matrix)) return measure_in_rows(store, *info, matrix, on_progress);
  const Tensor w = read(store, *info, matrix);
  Record record;
  make_spectrum_arrays(record, {}, matrix.num_singular_values());
  const SingularValues singular = singular_values(w);
  store_spectrum(record, 0, {matrix.rows, matrix.columns}, singular, entry_moments(w));
  return record;
}

/// Not of a stack, whose matrices have no rows of their own, nor of a part; nor what exceeds float32, where squares may
/// need a common scale.
bool comes_in_rows(const StoredMatrix& matrix) {
  return !matrix.slice && !matrix.cut && !matrix.exceeds_float32 &&
         matrix.rows >= kLeastHeightInRows * matrix.columns && matrix.num_elements() >= kLeastElementsInRows;
}

double stored_spectrum_flops(const StoredMatrix& matrix) {
  return comes_in_rows(matrix) ? rows_way_of(matrix)->flops() : singular_values_flops(matrix.rows, matrix.columns);
}

std::int64_t stored_spectrum_bytes(const StoredMatrix& matrix) {
  if (comes_in_rows(matrix)) {
    const std::int64_t height = std::min(matrix.rows, rows_at_once(matrix));
    return height * matrix.columns * (is_of_16_bits(matrix) ? 6 : 4) + matrix.rows * 48 + rows_way_of(matrix)->bytes();
  }
  // What a stack is read into is at least float32.
  const std::int64_t element =
      matrix.slice ? element_size_bytes(type_to_read(matrix)) : element_size_bytes(matrix.type);
  const std::int64_t whole = matrix.cut ? matrix.cut->stored_rows * matrix.cut->stored_columns : 0;
  return (whole + matrix.num_elements()) * element + singular_values_bytes(matrix.rows, matrix.columns);
}

std::int64_t stored_spectrum_least_bytes(const StoredMatrix& matrix) {
  if (comes_in_rows(matrix)) return 8 * matrix.columns * matrix.columns;
  const std::int64_t smaller = matrix.num_singular_values();
  return matrix.size_bytes() + 8 * smaller * smaller;
}

}  // namespace spectrace
