#pragma once

#include <filesystem>
#include <string>

namespace spectrace {

/// A model as the hub names it.
struct HubReference {
  std::string id;        ///< "org/name", "name"
  std::string revision;  ///< branch, tag or commit; empty if none is named
};

/// "org/name@revision" in its two parts; a text that has no revision, or is no hub id, is all id.
HubReference split_revision(const std::string& path);

/// Finds a model's folder without the network: `path` as a folder (relative to `base`; "~/…" too), under `models_root`
/// if that is not empty, or as a hub id ("org/name", "name", "org/name@revision") in the local hub cache: HF_HUB_CACHE,
/// HUGGINGFACE_HUB_CACHE, HF_HOME/hub, XDG_CACHE_HOME/huggingface/hub, ~/.cache/huggingface/hub, TRANSFORMERS_CACHE,
/// the first that has it; "~/…", $NAME and ${NAME} within them are expanded. There it is the snapshot of `revision`
/// (else of the path's): what refs/<revision> names, or the one whose name begins so. Without a revision it is the one
/// that refs/main names, and no other. A plain folder has no revisions: it is taken as it is.
/// @throws InputError (model) that lists every place looked at, and the revisions that are there if only that is wrong.
std::filesystem::path find_model_folder(const std::string& path, const std::filesystem::path& base,
                                        const std::filesystem::path& models_root, const std::string& revision = {});

}  // namespace spectrace
