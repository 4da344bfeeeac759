#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "spectrace/core/file.hpp"

namespace spectrace {

/// One file inside a zip archive, stored as it is (not deflated), so that it can be read in place.
struct ZipRecord {
  std::string name;
  std::uint64_t offset = 0;  ///< of its first byte, from the start of the archive
  std::uint64_t size_bytes = 0;
};

/// Reads the central directory (zip and zip64) and every record's local header, and holds them against each other and
/// against the file: all inside, none twice, none overlapping another, none encrypted or deflated.
/// The records in the order of their data. @throws InputError (model) naming file and record.
std::vector<ZipRecord> read_zip_directory(const FileReader& file);

}  // namespace spectrace
