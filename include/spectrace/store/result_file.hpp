#pragma once

#include <filesystem>
#include <string>

#include "spectrace/store/result_tree.hpp"

namespace spectrace {

/// Writes a results file: under another name, flushed to disk, renamed. The same tree gives the same bytes.
/// Adds the attribute content_sha256 (over everything else that the tree holds, see docs/file-format.md).
/// @throws InputError (io) naming the file and the system's reason; the old file, if any, is then still there.
void write_result_file(const std::filesystem::path& path, const ResultTree& tree);

/// Reads a file that write_result_file wrote back into the tree it was given (content_sha256 included as an attribute),
/// so that writing it again gives the same bytes. @throws InputError (io) if it cannot be read or is no results file.
ResultTree read_result_file(const std::filesystem::path& path);

/// SHA-256 over names, shapes, attributes and values of a tree; content_sha256 itself left out.
std::string digest_tree(const ResultTree& tree);

}  // namespace spectrace
