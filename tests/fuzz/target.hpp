#pragma once

#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include "spectrace/core/error.hpp"
#include "support/temp_folder.hpp"

namespace spectrace::fuzz {

/// What each fuzz target defines: hands the bytes to a reader and uses what comes out as the program would.
/// Only an InputError may come out of the reader. Returns its text, or nothing where the reader took the bytes.
std::string take(std::string_view bytes);

/// Writes `bytes` as the file `name` of a folder made for this purpose, calls `read` with the file's path, and
/// swallows the InputError. Returns its text.
template <typename Read>
std::string take_file(std::string_view bytes, const std::string& name, Read read) {
  static const TempFolder folder;
  const auto path = folder.path() / name;
  std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  std::string error;
  try {
    read(path);
  } catch (const InputError& refused) {
    error = refused.what();
  }
  std::filesystem::remove(path);
  return error;
}

}  // namespace spectrace::fuzz
