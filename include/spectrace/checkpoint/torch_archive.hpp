#pragma once

#include <vector>

#include "spectrace/checkpoint/tensor_info.hpp"
#include "spectrace/core/file.hpp"

namespace spectrace {

/// Reads what torch.save (1.6 and later: a zip archive) wrote of a state dict: a dict of tensors, or one that holds it
/// as "state_dict", "model", ... . No code of the file is run. Each tensor is held against its storage's record.
/// The entries in the dict's order, each with `file` = file_index.
/// @throws InputError (model) naming file and tensor, record, opcode or global.
std::vector<TensorInfo> read_torch_archive(const FileReader& file, int file_index);

}  // namespace spectrace
