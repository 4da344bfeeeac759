#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace spectrace {

/// An open file descriptor, closed at the end of its life. Reads at an offset, so threads may share it.
class FileReader {
 public:
  /// @throws InputError (io) naming the file and the system's reason.
  explicit FileReader(const std::filesystem::path& path);
  ~FileReader();
  FileReader(FileReader&& other) noexcept;
  FileReader& operator=(FileReader&& other) noexcept;

  const std::filesystem::path& path() const { return path_; }
  std::uint64_t size_bytes() const { return size_bytes_; }
  int descriptor() const { return descriptor_; }
  /// Fills `destination` from `offset` on. @throws InputError (io) if the file ends before, or a read fails.
  void read_at(std::uint64_t offset, std::span<std::byte> destination) const;

 private:
  std::filesystem::path path_;
  int descriptor_ = -1;
  std::uint64_t size_bytes_ = 0;
};

/// The whole file. @throws InputError (io).
std::string read_text_file(const std::filesystem::path& path);

/// Writes under another name in the same folder, flushes to disk, renames: readers see the old file or the whole new
/// one. @throws InputError (io) naming the file and the system's reason (a full disk among them).
void write_file_atomically(const std::filesystem::path& path, std::string_view content);

/// Flushes a finished file and renames it into place; the folder's entry is flushed too. @throws InputError (io).
void commit_file(const std::filesystem::path& temporary, const std::filesystem::path& final_path);

/// Creates the folder and its parents. @throws InputError (io).
void create_folders(const std::filesystem::path& folder);

}  // namespace spectrace
