#pragma once

#include <filesystem>

#include "spectrace/store/result_file.hpp"
#include "spectrace/store/result_tree.hpp"

namespace spectrace {

/// A group of the file `from` once more, in the way in which it was written first: the same bytes.
void copy_group(const std::filesystem::path& from, Group group, ResultFileWriter& writer);

/// Brings datasets that were left in the file because they are large into memory, those in rows of prompts aside.
void read_large(const std::filesystem::path& from, Group& group);

}  // namespace spectrace
