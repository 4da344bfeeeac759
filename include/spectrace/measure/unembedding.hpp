#pragma once

#include "spectrace/checkpoint/tensor_store.hpp"
#include "spectrace/measure/record.hpp"
#include "spectrace/model/description.hpp"

namespace spectrace {

/// Section 2 of docs/quantities.md: the unembedding W_U, (V, D), read in blocks of rows and never held whole. Arrays as
/// in /unembedding: singular_values [min(V, D)], row_norm [V], the scalars of shape [].
/// @throws InputError (model, io) naming the tensor.
Record measure_unembedding(const ModelDescription& model, const TensorStore& store);

}  // namespace spectrace
