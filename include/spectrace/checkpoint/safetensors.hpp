#pragma once

#include <vector>

#include "spectrace/checkpoint/tensor_info.hpp"
#include "spectrace/core/file.hpp"

namespace spectrace {

/// Reads the header of a safetensors file (8 bytes of length, JSON, data) and holds it against the file: every tensor
/// inside, sizes = shape x type, no gap, no overlap, no duplicate, and the file as long as the header says.
/// The entries in the order of their data, each with `file` = file_index; after them names that the metadata give to
/// entries beside their own (safetensors' save_model of shared tensors).
/// @throws InputError (model) naming file and tensor.
std::vector<TensorInfo> read_safetensors_header(const FileReader& file, int file_index);

/// @throws InputError (model) if the file is what git leaves in place of a large file that was not fetched.
void refuse_lfs_pointer(const FileReader& file);

}  // namespace spectrace
