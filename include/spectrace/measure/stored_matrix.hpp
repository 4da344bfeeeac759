#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "spectrace/checkpoint/tensor_info.hpp"

namespace spectrace {

/// Of its sizes, in results and where `inspect` lists matrices.
inline constexpr const char *kRows = "rows", *kColumns = "columns";

/// Where the rows and columns of a matrix lie in a larger one that is stored.
struct MatrixCut {
  std::int64_t first_row = 0, first_column = 0, column_step = 1;
  std::int64_t stored_rows = 0, stored_columns = 0;
};

/// A matrix as a checkpoint stores it: a tensor, one of those that are stacked in it, or a part of either
/// (docs/quantities.md, section 1).
struct StoredMatrix {
  std::string name;  ///< of its tensor; of a stack "name[i]"
  std::string tensor;
  StorageType type = StorageType::other;
  bool exceeds_float32 = false;  ///< float64, or codes times scales that float32 rounds
  std::int64_t rows = 0, columns = 0;
  std::optional<std::int64_t> slice = {};  ///< along the tensor's first dimension; absent: it is the whole tensor
  std::optional<MatrixCut> cut = {};       ///< of the tensor or slice; absent: all of it

  std::int64_t num_elements() const { return rows * columns; }
  /// Bytes that are read for it.
  std::int64_t size_bytes() const {
    return (cut ? cut->stored_rows * cut->stored_columns : num_elements()) * element_size_bits(type) / 8;
  }
  std::int64_t num_singular_values() const { return rows < columns ? rows : columns; }
};

/// A matrix, and where its values go: which one along the dimensions of its analysis before `index`, row by row.
struct PlacedMatrix {
  std::int64_t place = 0;
  StoredMatrix matrix;
};

/// A tensor of the checkpoint that is none, or not wanted.
struct LeftOutTensor {
  std::string name;
  std::string why;
};

/// Which tensors are wanted, by patterns of their names (fits_pattern).
struct TensorChoice {
  std::vector<std::string> include, exclude;
  std::vector<std::string> convolutions;  ///< of three dimensions (out, in, k); others of three are stacks
  std::int64_t max_elements = 0;          ///< of a matrix; 0: any number
};

/// Both in the order in which people count (comes_before), the matrices of a stack by their place in it.
struct StoredMatrices {
  std::vector<StoredMatrix> matrices;
  std::vector<LeftOutTensor> left_out;
};

/// Every tensor is a matrix, a stack of them or left out. Of two dimensions it is a matrix; of three a stack along the
/// first, or a convolution; of more a convolution (out, in, kernel...): the matrix (out, in x kernel...), which takes
/// patches to outputs. Left out are numbers that are not floating, fewer dimensions, tensors without elements, and
/// masks and tables that no model learns (is_buffer).
/// @throws InputError (model) if two matrices would have one name, or there are more than 131072.
StoredMatrices stored_matrices(const std::vector<TensorInfo>& tensors, const TensorChoice& choice);

}  // namespace spectrace
