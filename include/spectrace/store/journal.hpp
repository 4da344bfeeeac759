#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "spectrace/measure/record.hpp"

namespace spectrace {

/// Where a finished unit's record lies.
struct JournalEntry {
  std::filesystem::path file;
  std::uint64_t offset = 0;
  std::uint64_t size_bytes = 0;
};

/// Finished units on disk: one append-only file a rank and start, each record with its key, length and XXH3 checksum. A
/// kill at any moment costs at most the record being written: reading stops at the first one that is cut short or
/// damaged.
class JournalWriter {
 public:
  /// Creates a new file in the folder, under a name no other rank or earlier start has used.
  JournalWriter(const std::filesystem::path& folder, int rank);
  ~JournalWriter();
  /// Appends and flushes to disk (fsync). @throws InputError (io). Safe from several threads.
  JournalEntry append(const std::string& key, const Record& record);

 private:
  std::filesystem::path path_;
  int descriptor_ = -1;
  std::uint64_t size_bytes_ = 0;
  std::mutex mutex_;
};

/// Keys of all whole records in the folder's files; of several with one key the first by file name and place counts.
/// Damaged ends are logged, never trusted, never fatal. An absent folder holds none.
std::map<std::string, JournalEntry> read_journal_index(const std::filesystem::path& folder);

/// @throws InputError (io) if the record is no longer there or damaged.
Record read_journal_record(const JournalEntry& entry);

/// Removes the journal's folder with its files. @throws InputError (io).
void remove_journal(const std::filesystem::path& folder);

}  // namespace spectrace
