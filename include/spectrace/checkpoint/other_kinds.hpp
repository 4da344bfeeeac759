#pragma once

#include <filesystem>

namespace spectrace {

/// Says what a folder without a checkpoint of transformers holds instead, where that is known: an adapter (PEFT), the
/// publisher's own files (consolidated.*), GGUF. Nothing if it holds a checkpoint, or nothing that is known.
/// @throws InputError (model) with what to do.
void refuse_other_kinds(const std::filesystem::path& folder);

}  // namespace spectrace
