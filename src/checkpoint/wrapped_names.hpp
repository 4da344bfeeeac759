#pragma once

#include <filesystem>

#include "checkpoint_files.hpp"

namespace spectrace {

/// Takes what a wrapper put into the names of all tensors out of them again, with a warning: "_orig_mod."
/// (torch.compile) wherever it stands, "module." (DistributedDataParallel) in front of every name. @throws InputError
/// (model) where the names are those of PEFT, whose matrices lie beside the weights, or would no longer be unique.
void strip_wrappers(const std::filesystem::path& folder, CheckpointFiles& files);

}  // namespace spectrace
