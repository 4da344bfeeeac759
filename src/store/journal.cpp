#include "spectrace/store/journal.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <random>
#include <string_view>

#include "spectrace/core/error.hpp"
#include "spectrace/core/file.hpp"
#include "spectrace/core/hash.hpp"
#include "spectrace/core/log.hpp"

namespace spectrace {
namespace {

namespace fs = std::filesystem;

static_assert(std::endian::native == std::endian::little, "numbers are written as they lie in memory");

constexpr std::string_view kExtension = ".journal";
constexpr std::uint64_t kRecordMark = 0x4c4e524a43505332;         // "2SPCJRNL": a record of version 2
constexpr std::uint64_t kFailureMark = 0x4c49414643505332;        // "2SPCFAIL": the same, of a unit that failed
constexpr std::uint64_t kVersionlessMark = ~std::uint64_t{0xff};  // the first letter is the version
constexpr double kFlushPeriod_s = 1.0;

/// In front of a record's key and encoded record.
struct RecordHeader {
  std::uint64_t mark = kRecordMark;
  std::uint64_t key_bytes = 0;
  std::uint64_t record_bytes = 0;
  std::uint64_t checksum = 0;  ///< XXH3 of the two lengths, the key and the record
};
static_assert(sizeof(RecordHeader) == 32);

/// A record as it lies in a file: header, key, encoded record.
class RecordBytes {
 public:
  static RecordBytes make(const std::string& key, const std::string& record, bool failed) {
    RecordBytes made;
    RecordHeader header;
    header.mark = failed ? kFailureMark : kRecordMark;
    header.key_bytes = key.size();
    header.record_bytes = record.size();
    made.bytes_.reserve(sizeof header + key.size() + record.size());
    made.bytes_.resize(sizeof header);
    made.bytes_ += key;
    made.bytes_ += record;
    made.put(header);
    header.checksum = made.checksum();
    made.put(header);
    return made;
  }

  /// Becomes the record at the offset, in the memory that it has, or its header and key; why there is none goes to
  /// `damage`.
  bool read(const FileReader& file, std::uint64_t offset, std::string& damage,
            JournalCheck check = JournalCheck::records) {
    const std::uint64_t left = file.size_bytes() - offset;
    if (left < sizeof(RecordHeader)) {
      damage = "a record's header is cut short";
      return false;
    }
    if (bytes_.size() < sizeof(RecordHeader)) bytes_.resize(sizeof(RecordHeader));
    file.read_at(offset, std::as_writable_bytes(std::span(bytes_)).first(sizeof(RecordHeader)));
    const RecordHeader header = this->header();
    const std::uint64_t room = left - sizeof header;
    if (header.mark != kRecordMark && header.mark != kFailureMark) {
      damage = (header.mark & kVersionlessMark) == (kRecordMark & kVersionlessMark)
                   ? "a record of another version of the journal"
                   : "no record begins here";
    } else if (header.key_bytes > room || header.record_bytes > room - header.key_bytes) {
      damage = "a record is cut short";
    } else {
      const bool is_whole = check == JournalCheck::records;
      bytes_.resize(sizeof header + header.key_bytes + (is_whole ? header.record_bytes : 0));
      file.read_at(offset + sizeof header, std::as_writable_bytes(std::span(bytes_)).subspan(sizeof header));
      if (!is_whole || checksum() == header.checksum) return true;
      damage = "a record's checksum is wrong";
    }
    return false;
  }

  std::string key() const { return bytes_.substr(sizeof(RecordHeader), header().key_bytes); }
  std::span<const std::byte> record() const {
    return std::as_bytes(std::span(bytes_)).subspan(sizeof(RecordHeader) + header().key_bytes);
  }
  bool failed() const { return header().mark == kFailureMark; }
  std::uint64_t size_bytes() const { return sizeof(RecordHeader) + header().key_bytes + header().record_bytes; }
  const std::string& bytes() const { return bytes_; }

 private:
  RecordHeader header() const {
    RecordHeader header;
    std::memcpy(&header, bytes_.data(), sizeof header);
    return header;
  }
  void put(const RecordHeader& header) { std::memcpy(bytes_.data(), &header, sizeof header); }
  /// Of everything but the mark and the checksum itself.
  std::uint64_t checksum() const {
    const RecordHeader fields = header();
    const auto bytes = std::as_bytes(std::span(bytes_));
    const std::uint64_t parts[] = {fields.key_bytes, fields.record_bytes, xxh3_64(bytes.subspan(sizeof(RecordHeader)))};
    return xxh3_64(std::as_bytes(std::span(parts)));
  }

  std::string bytes_;
};

[[noreturn]] void fail(const std::string& what, const fs::path& path, int error_number) {
  const bool is_full = error_number == ENOSPC || error_number == EDQUOT;
  throw InputError(ErrorKind::io, what + " the journal '" + path.string() + "'", std::strerror(error_number),
                   is_full ? "Free some space and run the same command again." : "");
}

/// The folder's journal files and those named, in the order of their names; none if the folder is absent.
std::vector<fs::path> journal_files(const fs::path& folder, const std::vector<std::string>& file_names) {
  std::vector<fs::path> files;
  for (const auto& name : file_names) files.push_back(folder / name);
  std::error_code error;
  for (fs::directory_iterator place(folder, error), end; !error && place != end; place.increment(error))
    if (place->path().extension() == kExtension) files.push_back(place->path());
  if (error && error != std::errc::no_such_file_or_directory) fail("cannot list", folder, error.value());
  std::sort(files.begin(), files.end());
  files.erase(std::unique(files.begin(), files.end()), files.end());
  return files;
}

/// "rank-00003-18c2f3a1b4c5d6e7-8f3a01c2d4e5b697.journal": files of a rank in the order of their times, and a random
/// end, since the clocks of two hosts may agree.
std::string new_name(int rank) {
  const auto now_ns =
      std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now().time_since_epoch());
  std::random_device random;
  char text[64];
  std::snprintf(text, sizeof text, "rank-%05d-%016llx-%08x%08x", rank, static_cast<unsigned long long>(now_ns.count()),
                random(), random());
  return text + std::string(kExtension);
}

void flush_folder(const fs::path& folder) {
  const int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) fail("cannot open the folder of", folder, errno);
  const int reason = ::fsync(descriptor) == 0 || errno == EINVAL ? 0 : errno;
  ::close(descriptor);
  if (reason != 0) fail("cannot flush the folder of", folder, reason);
}

}  // namespace

void create_journal_folder(const fs::path& folder) {
  for (const auto& path : {folder.parent_path(), folder})
    if (::mkdir(path.c_str(), 0777) != 0 && errno != EEXIST) fail("cannot create the folder of", path, errno);
}

JournalWriter::JournalWriter(fs::path folder, int rank) : folder_(std::move(folder)), rank_(rank) {}

void JournalWriter::open() {
  create_journal_folder(folder_);
  do {
    path_ = folder_ / new_name(rank_);
    descriptor_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  } while (descriptor_ < 0 && errno == EEXIST);
  if (descriptor_ < 0) fail("cannot create", path_, errno);
  flush_folder(folder_);
}

JournalWriter::~JournalWriter() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

JournalEntry JournalWriter::append(const std::string& key, const Record& record) {
  const bool failed = !record.error.empty();
  const RecordBytes made = RecordBytes::make(key, encode_record(record), failed);
  const std::string& bytes = made.bytes();
  const std::lock_guard lock(mutex_);
  if (descriptor_ < 0) open();
  int reason = 0;
  for (std::size_t done = 0; done < bytes.size() && reason == 0;) {
    const ssize_t wrote =
        ::pwrite(descriptor_, bytes.data() + done, bytes.size() - done, static_cast<off_t>(size_bytes_ + done));
    if (wrote >= 0)
      done += static_cast<std::size_t>(wrote);
    else if (errno != EINTR)
      reason = errno;
  }
  if (reason != 0) {
    // Takes the torn record back, so that a later one does not end up behind it, where no reader would find it. If this
    // fails too, the next append writes over it.
    static_cast<void>(!::ftruncate(descriptor_, static_cast<off_t>(size_bytes_)));
    fail("cannot write", path_, reason);
  }
  const JournalEntry entry{path_, size_bytes_, bytes.size(), failed};
  size_bytes_ += bytes.size();
  unflushed_ = true;
  if (entry.offset == 0 || since_flush_.elapsed_s() >= kFlushPeriod_s) flush_locked();
  return entry;
}

void JournalWriter::flush() {
  const std::lock_guard lock(mutex_);
  flush_locked();
}

void JournalWriter::flush_locked() {
  if (!unflushed_) return;
  if (::fsync(descriptor_) != 0) fail("cannot flush", path_, errno);
  unflushed_ = false;
  since_flush_.restart();
}

namespace {

/// Takes up the records of one file, in one walk over its bytes.
void add_records(const fs::path& path, JournalCheck check, std::map<std::string, JournalEntry>& index) {
  const FileReader file(path);
  RecordBytes record;
  for (std::uint64_t offset = 0; offset < file.size_bytes();) {
    std::string damage;
    if (!record.read(file, offset, damage, check)) {
      log_warning("journal '{}', byte {}: {}; what comes from there on is computed again", path.string(), offset,
                  damage);
      return;
    }
    const JournalEntry entry{path, offset, record.size_bytes(), record.failed()};
    const auto [place, is_new] = index.try_emplace(record.key(), entry);
    if (!is_new && place->second.failed && !entry.failed) place->second = entry;
    offset += record.size_bytes();
  }
}

}  // namespace

std::map<std::string, JournalEntry> read_journal_index(const fs::path& folder,
                                                       const std::vector<std::string>& file_names, JournalCheck check) {
  std::map<std::string, JournalEntry> index;
  for (const auto& path : journal_files(folder, file_names)) {
    try {
      add_records(path, check, index);
    } catch (const InputError& error) {
      // A FIFO, a link that leads nowhere, a bad sector: units that are missing then are done again.
      log_warning("journal: {}; what it held is computed again", error.what());
    }
  }
  return index;
}

class JournalReader::Bytes : public RecordBytes {};

JournalReader::JournalReader() : bytes_(std::make_unique<Bytes>()) {}
JournalReader::~JournalReader() = default;

Record read_journal_record(const JournalEntry& entry) { return JournalReader().read(entry); }

Record JournalReader::read(const JournalEntry& entry) {
  const FileReader file(entry.file);
  std::string damage = "the file is shorter than it was";
  const bool is_there = entry.offset <= file.size_bytes() && entry.size_bytes <= file.size_bytes() - entry.offset;
  const bool is_read = is_there && bytes_->read(file, entry.offset, damage);
  const std::string place = "cannot read the record at byte " + std::to_string(entry.offset) + " of the journal '" +
                            entry.file.string() + "'";
  const std::string suggestion = "Run the same command again: the unit is then computed anew.";
  if (!is_read) throw InputError(ErrorKind::io, place, damage, suggestion);
  try {
    return decode_record(bytes_->record());
  } catch (const std::runtime_error& error) {
    throw InputError(ErrorKind::io, place, error.what(), suggestion);
  }
}

void remove_journal(const fs::path& folder, const std::vector<std::string>& file_names) {
  for (const auto& path : journal_files(folder, file_names)) {
    // A folder of such a name is not ours.
    if (::unlink(path.c_str()) != 0 && errno != ENOENT && errno != EISDIR) fail("cannot remove", path, errno);
  }
  // Something else in the folder (a network file system's leftovers of open files) is not ours to remove.
  if (::rmdir(folder.c_str()) != 0 && errno != ENOENT && errno != ENOTEMPTY && errno != EEXIST)
    fail("cannot remove the folder of", folder, errno);
}

}  // namespace spectrace
