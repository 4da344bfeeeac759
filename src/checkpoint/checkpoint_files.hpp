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
  std::vector<TensorInfo> tensors;    ///< sorted by name, each name once
  std::vector<std::string> warnings;  ///< what is read otherwise than one could expect
};

/// Finds the weight files of a folder, by an index or by their names, and reads their headers.
/// @throws InputError (model) naming folder, file and tensor.
CheckpointFiles open_checkpoint_files(const std::filesystem::path& folder);

/// File names in the folder that end in `extension`, sorted. @throws InputError (io) if it cannot be listed.
std::vector<std::string> files_ending_in(const std::filesystem::path& folder, const std::string& extension);

}  // namespace spectrace
