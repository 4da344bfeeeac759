#pragma once

#include <filesystem>
#include <string>

#include "spectrace/store/result_tree.hpp"

namespace spectrace {

/// Writes a results file: under another name, flushed to disk, renamed. The same tree gives the same bytes.
/// Adds the attribute content_sha256 (over everything else that the tree holds, see docs/file-format.md), and on groups
/// NeXus's NX_class, signal and axes, by which viewers such as h5web know what to plot: these are no part of the tree.
/// Groups are given as a walk over the file finds them: each after its parent, before its parent's next neighbour.
/// Bytes that are not UTF-8 are written as U+FFFD. The whole file is made in memory first.
/// @throws InputError (io) naming the file and the system's reason; the old file, if any, is then still there.
void write_result_file(const std::filesystem::path& path, const ResultTree& tree);

/// What becomes of a file whose contents no longer match its content_sha256.
enum class WrongDigest {
  warned,   ///< logged
  refused,  ///< an error: nothing is built upon it
};

/// Reads a file that write_result_file wrote back into the tree it was given (content_sha256 included as an attribute),
/// so that writing it again gives the same bytes.
/// @throws InputError (io) if it cannot be read or is no results file, or was changed and that is refused.
ResultTree read_result_file(const std::filesystem::path& path, WrongDigest wrong_digest = WrongDigest::warned);

/// SHA-256 over names, shapes, attributes and values of a tree; content_sha256 itself left out.
std::string digest_tree(const ResultTree& tree);

}  // namespace spectrace
