#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "spectrace/model/description.hpp"
#include "spectrace/model/layer_weights.hpp"

namespace spectrace {

/// How matrices are cut from the checkpoint for the spectra and the sheaf. The forward pass is always right.
enum class Slicing {
  correct,
  as_published,          ///< the notebooks' cut, to reproduce what was published (docs/quantities.md, last section)
  as_published_float16,  ///< the same of weights that were rounded to float16 first, as some notebooks load them
};

Slicing parse_slicing(const std::string& text);
const char* name(Slicing slicing);
/// Of the type of `weights`; as they are, unless the slicing rounds them to float16 (to nearest; infinite above 65519).
Tensor rounded(const Tensor& weights, Slicing slicing);

/// The roles that have to be read so that these can be cut: as published, W_Q, W_K and W_V are thirds of what is fused.
MatrixRoles roles_to_slice(const ModelDescription& model, const MatrixRoles& roles, Slicing slicing);
/// The matrices as the slicing cuts them: views of what was read, wherever the checkpoint's layout allows.
/// @pre all of roles_to_slice are there.
LayerMatrices slice_matrices(const ModelDescription& model, const LayerMatrices& matrices, Slicing slicing);

/// Rows of the slice of W_V that belongs to each query head: grouped heads share one; as published a slice past the end
/// is empty. [num_heads]
std::vector<RowRange> value_rows(const ModelDescription& model, const Tensor& sliced_w_v, Slicing slicing);

/// Most singular values that one head's slice can have: head_dim, or hidden_size / num_heads where that is larger and
/// the notebooks' slices are asked for.
std::int64_t head_index_size(const ModelDescription& model, Slicing slicing);

}  // namespace spectrace
