#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "spectrace/core/error.hpp"

namespace spectrace {

/// What the system says of a file: as long as it stays the same, so does the content. Not the device: its number is
/// another one on every host.
struct FileStatus {
  std::uint64_t size_bytes = 0;
  std::int64_t modified_ns = 0;  ///< since the epoch
  std::int64_t changed_ns = 0;   ///< since the epoch; ctime: nobody can set it back, as mtime can be
  std::uint64_t inode = 0;

  bool operator==(const FileStatus&) const = default;
};

/// An open regular file, closed at the end of its life. Reads at an offset, so threads may share it.
class FileReader {
 public:
  /// Follows links. @throws InputError (io) naming the file and the system's reason; at once, without waiting, if it
  /// is no regular file (a FIFO, a socket, a device, a folder).
  explicit FileReader(const std::filesystem::path& path);
  ~FileReader();
  FileReader(FileReader&& other) noexcept;
  FileReader& operator=(FileReader&& other) noexcept;

  const std::filesystem::path& path() const { return path_; }
  std::uint64_t size_bytes() const { return status_.size_bytes; }
  /// As it was when the file was opened.
  const FileStatus& status() const { return status_; }
  int descriptor() const { return descriptor_; }
  /// Fills `destination` from `offset` on. @throws InputError (io) if the file ends before, or a read fails.
  void read_at(std::uint64_t offset, std::span<std::byte> destination) const;
  /// The error (io) of a file that lacks bytes which it had when it was opened.
  InputError became_shorter() const;
  /// What is not as it was when the file was opened, of the open file or of the one now found at its path ("it had 10
  /// bytes, now 12"); nothing if all is.
  std::optional<std::string> find_change() const;

 private:
  std::filesystem::path path_;
  int descriptor_ = -1;
  FileStatus status_;
};

/// What a text file may have: prompts by the million fit; what is larger (a file of holes among them) is a mistake.
inline constexpr std::uint64_t kMostTextBytes = std::uint64_t{4} << 30;

/// The whole file. @throws InputError (io) as FileReader does, (too_large) if it has more than `most_bytes`.
std::string read_text_file(const std::filesystem::path& path, std::uint64_t most_bytes = kMostTextBytes,
                           ErrorKind too_large = ErrorKind::io);

/// Whether nothing has this name. What cannot be looked up (links in a circle, no permission, a name too long) is not
/// absent: who opens it is told what is wrong.
bool is_absent(const std::filesystem::path& path);

/// Writes under another name in the same folder, flushes to disk, renames: readers see the old file or the whole new
/// one. @throws InputError (io) naming the file and the system's reason (a full disk among them).
void write_file_atomically(const std::filesystem::path& path, std::string_view content);

/// Flushes a finished file and renames it into place; the folder's entry is flushed too. @throws InputError (io).
void commit_file(const std::filesystem::path& temporary, const std::filesystem::path& final_path);

/// Creates the folder and its parents. @throws InputError (io).
void create_folders(const std::filesystem::path& folder);

}  // namespace spectrace
