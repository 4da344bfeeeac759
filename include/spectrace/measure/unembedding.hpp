#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "spectrace/checkpoint/tensor_store.hpp"
#include "spectrace/measure/record.hpp"
#include "spectrace/measure/slicing.hpp"
#include "spectrace/model/description.hpp"
#include "spectrace/numerics/singular_values.hpp"

namespace spectrace {

/// The parts in which an unembedding of this shape is done, each by whichever rank: rows in order, the first ones one
/// longer where they are not equal. As many as keep the work of one worth its triangle; 8 at most. They follow from
/// the shape alone, since the bits depend on them. One if it is not worth more.
std::vector<RowRange> unembedding_parts(std::int64_t num_rows, std::int64_t num_columns);

/// Flops of such a part: its triangle; of the only one all that measure_unembedding does. And of UnembeddingParts.
double unembedding_part_flops(std::int64_t num_rows, std::int64_t num_columns, const RowRange& rows);
double unembedding_join_flops(std::int64_t num_rows, std::int64_t num_columns);

/// Section 2 of docs/quantities.md: the unembedding W_U, (V, D), or some of its rows, read in blocks and never held
/// whole. Of all rows: arrays as in /unembedding: singular_values [min(V, D)], row_norm [V], the scalars of shape [].
/// Of a part of them: row_norm [rows], triangle [D (D + 1) / 2] and what else UnembeddingParts needs.
/// Rows are rounded as the slicing says.
/// `on_progress` is told after every block which share of the work it was; it may throw to end the work.
/// @throws InputError (model, io) naming the tensor.
Record measure_unembedding(const ModelDescription& model, const TensorStore& store, Slicing slicing,
                           const RowRange& rows, const std::function<void(double share)>& on_progress = {});

/// Puts the records of all parts together.
class UnembeddingParts {
 public:
  explicit UnembeddingParts(std::int64_t num_columns);
  /// Parts in their order. @pre fits(part, rows, num_columns).
  void add(const Record& part);
  /// The record of all rows. Call once. @throws NumericalError if no route to the singular values converges.
  Record finish();
  /// Whether a record can be that of a part.
  static bool fits(const Record& part, const RowRange& rows, std::int64_t num_columns);

 private:
  TallSingularValues tall_;
  std::int64_t num_columns_;
  std::vector<double> norms_;  // of all rows so far
};

/// Peak bytes of measure_unembedding for the longest part, and of UnembeddingParts with the record that is added (none
/// where there is one part), for planning.
std::int64_t unembedding_workspace_bytes(std::int64_t num_rows, std::int64_t num_columns);
std::int64_t unembedding_join_bytes(std::int64_t num_rows, std::int64_t num_columns);

}  // namespace spectrace
