#pragma once

#include <filesystem>
#include <string>

namespace spectrace {

/// Finds a model's folder without the network: `path` as a folder (relative to `base`), under `models_root` if that is
/// not empty, or as a hub id ("org/name", "name") in the local hub cache: HF_HUB_CACHE, HF_HOME/hub, or
/// ~/.cache/huggingface/hub, at the revision that refs/main names (else the only or newest snapshot).
/// @throws InputError (model) that lists every place looked at.
std::filesystem::path find_model_folder(const std::string& path, const std::filesystem::path& base,
                                        const std::filesystem::path& models_root);

}  // namespace spectrace
