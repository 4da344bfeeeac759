#pragma once

#include <filesystem>
#include <string>

#include "spectrace/core/file.hpp"

// A seal tells whether a results file was touched since this program wrote it: ".seals/<file>.seal" beside it holds
// what the system said of the file then, and the SHA-256 of its bytes. A sealed file may be read without further ado:
// its change time (ctime) cannot be set back, nor be foreseen by who made a folder elsewhere. A seal that is absent,
// torn or of other bytes only costs a look at the whole file.

namespace spectrace {

/// Notes a file that was just written. Not flushed, never an error.
void write_seal(const std::filesystem::path& results);

/// Notes the open file, whose contents were found to be whole, unless the bytes that were written are known to be
/// others.
void renew_seal(const FileReader& results);

/// Whether the open file is as it was when it was sealed.
bool is_sealed(const FileReader& results);

/// What the seal says of the file's bytes; empty if there is none.
std::string sealed_sha256(const std::filesystem::path& results);

/// SHA-256 of all bytes. @throws InputError (io).
std::string sha256_of_bytes(const FileReader& file);

}  // namespace spectrace
