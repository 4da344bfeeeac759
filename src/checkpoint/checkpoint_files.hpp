#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "spectrace/checkpoint/tensor_info.hpp"
#include "spectrace/core/file.hpp"

namespace spectrace {

/// The weight files of one folder and what their headers say.
struct CheckpointFiles {
  std::string format;  ///< "safetensors" or "pytorch"
  std::vector<std::shared_ptr<const FileReader>> readers;
  std::vector<TensorInfo> tensors;  ///< sorted by name, each name once
};

/// Finds the weight files of a folder, by an index or by their names, and reads their headers.
/// @throws InputError (model) naming folder, file and tensor.
CheckpointFiles open_checkpoint_files(const std::filesystem::path& folder);

}  // namespace spectrace
