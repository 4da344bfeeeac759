#pragma once

#include "spectrace/core/file.hpp"
#include "spectrace/store/vetting.hpp"

namespace spectrace {

/// Whether a process of their own reads foreign files first.
bool has_vetting();

/// Has the whole file read by such a process, datasets of more than `most_values` numbers in rows. True if its contents
/// match its content_sha256.
/// @throws InputError (io) that names the file, if it cannot be read, or not without harm.
bool vet_in_process(const FileReader& file, std::size_t most_values);

}  // namespace spectrace
