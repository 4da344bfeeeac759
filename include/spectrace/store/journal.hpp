#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "spectrace/core/stopwatch.hpp"
#include "spectrace/measure/record.hpp"

namespace spectrace {

/// Where a finished unit's record lies.
struct JournalEntry {
  std::filesystem::path file;
  std::uint64_t offset = 0;
  std::uint64_t size_bytes = 0;
  bool failed = false;  ///< the record says why its unit failed
};

/// Finished units on disk: one append-only file a rank and start, each record with its key, length and XXH3 checksum. A
/// kill at any moment costs at most the record being written: reading stops at the first one that is cut short or
/// damaged.
class JournalWriter {
 public:
  /// Nothing is touched before the first record comes: ranks without work make no file.
  JournalWriter(std::filesystem::path folder, int rank);
  ~JournalWriter();
  JournalWriter(const JournalWriter&) = delete;
  JournalWriter& operator=(const JournalWriter&) = delete;

  /// Appends; flushes to disk (fsync) unless it did so less than a second ago. @throws InputError (io). Safe from
  /// several threads.
  JournalEntry append(const std::string& key, const Record& record);
  /// Everything appended is on disk, and other hosts see it. @throws InputError (io).
  void flush();
  /// Of the file; empty before the first record.
  std::string file_name() const { return path_.filename().string(); }

 private:
  void open();
  void flush_locked();

  std::filesystem::path folder_, path_;
  int rank_ = 0;
  int descriptor_ = -1;
  std::uint64_t size_bytes_ = 0;
  bool unflushed_ = false;
  Stopwatch since_flush_;
  std::mutex mutex_;
};

/// Makes the journal's folder and the one around it, no other: an output folder that was moved away under a run is not
/// begun anew, without the results that it held. @throws InputError (io).
void create_journal_folder(const std::filesystem::path& folder);

/// What of a journal's records is looked at to index them: all of each, or their headers alone, where each record is
/// read, and held against its checksum, before it counts.
enum class JournalCheck { records, headers };

/// Keys of all whole records in the folder's files; of several with one key the first by file name and place counts,
/// and one that failed only if no other did better. Damaged ends, and files that cannot be read, are logged, never
/// trusted, never fatal. An absent folder holds none.
/// `file_names`: files that are there although the folder may not list them: for up to a minute, a network file system
/// lists what it listed before.
std::map<std::string, JournalEntry> read_journal_index(const std::filesystem::path& folder,
                                                       const std::vector<std::string>& file_names = {},
                                                       JournalCheck check = JournalCheck::records);

/// Reads records one after the other into the same memory: with tens of MB each, new memory for every one costs more
/// than reading it.
class JournalReader {
 public:
  JournalReader();
  ~JournalReader();
  /// @throws InputError (io) if the record is no longer there or damaged.
  Record read(const JournalEntry& entry);

 private:
  class Bytes;
  std::unique_ptr<Bytes> bytes_;
};

/// The same of one record.
Record read_journal_record(const JournalEntry& entry);

/// Removes the journal's folder with its files, listed or named. @throws InputError (io).
void remove_journal(const std::filesystem::path& folder, const std::vector<std::string>& file_names = {});

}  // namespace spectrace
