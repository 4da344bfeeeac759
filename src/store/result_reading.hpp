#pragma once

#include <cstddef>
#include <filesystem>
#include <string>

#include "spectrace/core/error.hpp"
#include "spectrace/store/result_tree.hpp"

namespace spectrace {

enum class DigestCheck { asked, unasked };

struct ReadResults {
  ResultTree tree;
  bool is_whole = true;  ///< its contents match its content_sha256; of another format, or unasked, nobody knows
};

/// Reads the file in this process, whatever HDF5 makes of it. @throws InputError (io).
ReadResults read_results_here(const std::filesystem::path& path, std::size_t most_values, DigestCheck check);

InputError unreadable_results(const std::filesystem::path& path, const std::string& why);

}  // namespace spectrace
