#pragma once

#include <array>
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

/// The four attention matrices that the spectra are taken of, and each query head's slice of them.
/// All are views of what was read, wherever the checkpoint's layout allows.
struct SlicedWeights {
  std::array<Tensor, 4> matrices;  // W_Q, W_K, W_V, W_O; each (out, in)
  /// Rows of the slice of W_V that belongs to each query head: grouped heads share one; as published a slice past the
  /// end is empty.
  std::vector<RowRange> value_rows;  // [num_heads]
};

inline constexpr std::array<const char*, 4> kMatrixNames = {"W_Q", "W_K", "W_V", "W_O"};

SlicedWeights slice_weights(const ModelDescription& model, const AttentionWeights& weights, Slicing slicing);

/// Most singular values that one head's slice can have: head_dim, or hidden_size / num_heads where that is larger and
/// the notebooks' slices are asked for.
std::int64_t head_index_size(const ModelDescription& model, Slicing slicing);

}  // namespace spectrace
