#pragma once

#include <functional>

#include "spectrace/checkpoint/tensor_store.hpp"
#include "spectrace/measure/record.hpp"
#include "spectrace/measure/slicing.hpp"
#include "spectrace/model/description.hpp"

namespace spectrace {

/// Section 2 of docs/quantities.md: the unembedding W_U, (V, D), read in blocks of rows and never held whole. Arrays as
/// in /unembedding: singular_values [min(V, D)], row_norm [V], the scalars of shape [].
/// Its rows are rounded as the slicing says.
/// `on_progress` is told after every block which share of the work it was; it may throw to end the work.
/// @throws InputError (model, io) naming the tensor.
Record measure_unembedding(const ModelDescription& model, const TensorStore& store, Slicing slicing,
                           const std::function<void(double share)>& on_progress = {});

/// Peak bytes of measure_unembedding, for planning.
std::int64_t unembedding_workspace_bytes(std::int64_t num_rows, std::int64_t num_columns);

}  // namespace spectrace
