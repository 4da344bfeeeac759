#pragma once

#include <filesystem>
#include <string>

#include "spectrace/core/stopwatch.hpp"

namespace spectrace {

/// One run at a time works in an output folder. The lock is a file, run.lock, that says who holds it: locked by the
/// system (flock) for as long as the holder lives, which every process of the same host sees, and touched every few
/// seconds, for file systems on which hosts do not see each other's locks.
class FolderLock {
 public:
  /// @throws InputError (usage) naming host and pid of the run that works there; (io) if the file cannot be made.
  /// A lock whose holder is gone is taken over; if it ran on another host this takes some seconds.
  explicit FolderLock(const std::filesystem::path& folder);
  /// Removes the file.
  ~FolderLock();
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

  /// To be called often: touches the file when it is due. False if another run has taken the folder, which can be where
  /// this one stood still for long.
  [[nodiscard]] bool heartbeat();

 private:
  bool is_taken() const;

  std::filesystem::path path_;
  int descriptor_ = -1;
  Stopwatch since_touch_;
};

}  // namespace spectrace
