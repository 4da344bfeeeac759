#include "spectrace/core/file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

#include "spectrace/core/error.hpp"

namespace spectrace {
namespace {

[[noreturn]] void fail(const std::string& what, const std::filesystem::path& path, int error_number) {
  std::string suggestion;
  if (error_number == ENOSPC || error_number == EDQUOT) suggestion = "Free some space and run the same command again.";
  if (error_number == EACCES || error_number == EPERM) suggestion = "Check the permissions of the path.";
  throw InputError(ErrorKind::io, what + " '" + path.string() + "'", std::strerror(error_number), suggestion);
}

/// A descriptor for the helpers below that closes on every way out.
class Descriptor {
 public:
  explicit Descriptor(int value) : value_(value) {}
  ~Descriptor() {
    if (value_ >= 0) ::close(value_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int value() const { return value_; }
  int release() { return std::exchange(value_, -1); }

 private:
  int value_;
};

void flush_path(const std::filesystem::path& path, int flags) {
  const Descriptor descriptor(::open(path.c_str(), flags | O_CLOEXEC));
  if (descriptor.value() < 0) fail("cannot open to flush", path, errno);
  if (::fsync(descriptor.value()) != 0 && errno != EINVAL) fail("cannot flush to disk", path, errno);
}

[[noreturn]] void refuse_irregular(const std::filesystem::path& path, mode_t mode) {
  const char* what = S_ISFIFO(mode) ? "a FIFO" : S_ISSOCK(mode) ? "a socket" : "a device";
  throw InputError(ErrorKind::io, "'" + path.string() + "' is not a regular file", what,
                   "Give a file that lies on a disk.");
}

FileStatus file_status(const struct stat& status) {
  const auto nanoseconds = [](const timespec& time) {
    return std::int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
  };
  return {.size_bytes = static_cast<std::uint64_t>(status.st_size),
          .modified_ns = nanoseconds(status.st_mtim),
          .changed_ns = nanoseconds(status.st_ctim),
          .inode = std::uint64_t{status.st_ino}};
}

std::string describe_change(const FileStatus& before, const FileStatus& now) {
  if (before.inode != now.inode) return "another file now has its name";
  if (before.size_bytes != now.size_bytes)
    return "it had " + std::to_string(before.size_bytes) + " bytes, now " + std::to_string(now.size_bytes);
  if (before.modified_ns != now.modified_ns) return "it was written to: its modification time is another one";
  return "it was written to, renamed or given other permissions: its change time (ctime) is another one";
}

}  // namespace

FileReader::FileReader(const std::filesystem::path& path) : path_(path) {
  // The system would open what stands before it.
  if (path.native().find('\0') != std::string::npos) fail("cannot open", path, EINVAL);
  // Non-blocking: opening a FIFO would wait for somebody to write into it. A terminal must not become this process's.
  Descriptor descriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  struct stat status {};
  if (descriptor.value() < 0) {
    const int reason = errno;
    // A socket cannot be opened at all; the system's reason, "no such device", would mislead.
    if (reason == ENXIO && ::stat(path.c_str(), &status) == 0) refuse_irregular(path, status.st_mode);
    fail("cannot open", path, reason);
  }
  if (::fstat(descriptor.value(), &status) != 0) fail("cannot read", path, errno);
  if (S_ISDIR(status.st_mode)) fail("cannot read", path, EISDIR);
  if (!S_ISREG(status.st_mode)) refuse_irregular(path, status.st_mode);
  // Some network file systems heed it for regular files too.
  const int flags = ::fcntl(descriptor.value(), F_GETFL);
  if (flags < 0 || ::fcntl(descriptor.value(), F_SETFL, flags & ~O_NONBLOCK) != 0) fail("cannot read", path, errno);
  status_ = file_status(status);
  descriptor_ = descriptor.release();
}

FileReader::~FileReader() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

FileReader::FileReader(FileReader&& other) noexcept
    : path_(std::move(other.path_)), descriptor_(std::exchange(other.descriptor_, -1)), status_(other.status_) {}

FileReader& FileReader::operator=(FileReader&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(descriptor_, other.descriptor_);
  std::swap(status_, other.status_);
  return *this;
}

void FileReader::read_at(std::uint64_t offset, std::span<std::byte> destination) const {
  std::size_t done = 0;
  while (done < destination.size()) {
    const ssize_t got =
        ::pread(descriptor_, destination.data() + done, destination.size() - done, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail("cannot read", path_, errno);
    if (got == 0 && offset + done < size_bytes()) throw became_shorter();
    if (got == 0)
      throw InputError(ErrorKind::io, "'" + path_.string() + "' ends at byte " + std::to_string(offset + done),
                       "expected " + std::to_string(destination.size() - done) + " more bytes",
                       "Is the file cut short? Copy it again.");
    done += static_cast<std::size_t>(got);
  }
}

InputError FileReader::became_shorter() const {
  struct stat status {};
  const std::string now = ::fstat(descriptor_, &status) == 0 ? std::to_string(status.st_size) : "an unknown number";
  return InputError(ErrorKind::io, "'" + path_.string() + "' has become shorter while it was being read",
                    "it had " + std::to_string(size_bytes()) + " bytes, now " + now,
                    "Copy it again, to where nobody writes to it.");
}

std::optional<std::string> FileReader::find_change() const {
  struct stat status {};
  if (::stat(path_.c_str(), &status) != 0)
    return "its path cannot be looked up any more: " + std::string(std::strerror(errno));
  if (const FileStatus now = file_status(status); now != status_) return describe_change(status_, now);
  if (::fstat(descriptor_, &status) != 0)
    return "it cannot be looked up any more: " + std::string(std::strerror(errno));
  if (const FileStatus now = file_status(status); now != status_) return describe_change(status_, now);
  return std::nullopt;
}

std::string read_text_file(const std::filesystem::path& path, std::uint64_t most_bytes, ErrorKind too_large) {
  const FileReader file(path);
  if (file.size_bytes() > most_bytes)
    throw InputError(
        too_large, "'" + path.string() + "' is too large",
        "it has " + std::to_string(file.size_bytes()) + " bytes, at most " + std::to_string(most_bytes) + " are read",
        "Is it the right file?");
  std::string text(file.size_bytes(), '\0');
  file.read_at(0, std::as_writable_bytes(std::span(text)));
  return text;
}

bool is_absent(const std::filesystem::path& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) != 0 && (errno == ENOENT || errno == ENOTDIR);
}

void write_file_atomically(const std::filesystem::path& path, std::string_view content) {
  auto temporary = path;
  temporary += ".part" + std::to_string(::getpid());
  Descriptor descriptor(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
  if (descriptor.value() < 0) fail("cannot create", temporary, errno);
  try {
    std::size_t done = 0;
    while (done < content.size()) {
      const ssize_t wrote = ::write(descriptor.value(), content.data() + done, content.size() - done);
      if (wrote < 0 && errno == EINTR) continue;
      if (wrote < 0) fail("cannot write", path, errno);
      done += static_cast<std::size_t>(wrote);
    }
    if (::close(descriptor.release()) != 0) fail("cannot write", path, errno);
    commit_file(temporary, path);
  } catch (...) {
    ::unlink(temporary.c_str());
    throw;
  }
}

void commit_file(const std::filesystem::path& temporary, const std::filesystem::path& final_path) {
  flush_path(temporary, O_RDONLY);
  if (std::rename(temporary.c_str(), final_path.c_str()) != 0) fail("cannot rename to", final_path, errno);
  const auto folder = final_path.parent_path();
  flush_path(folder.empty() ? "." : folder, O_RDONLY | O_DIRECTORY);
}

void create_folders(const std::filesystem::path& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) fail("cannot create the folder", folder, error.value());
}

}  // namespace spectrace
