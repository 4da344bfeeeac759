#include "spectrace/sweep/folder_lock.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <string>
#include <thread>

#include "spectrace/comm/launch.hpp"
#include "spectrace/core/error.hpp"
#include "spectrace/core/file.hpp"
#include "spectrace/core/json.hpp"
#include "spectrace/core/log.hpp"

namespace spectrace {
namespace {

constexpr double kTouchPeriod_s = 3;
/// Without a touch for so long the holder is gone.
constexpr double kStaleAfter_s = 15;

struct Holder {
  std::string host;
  long pid = 0;
};

/// Who the file says holds it; nothing where a kill left it empty or torn.
Holder read_holder(int descriptor) {
  std::string text(4096, '\0');
  const ssize_t size = ::pread(descriptor, text.data(), text.size(), 0);
  text.resize(size > 0 ? static_cast<std::size_t>(size) : 0);
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return {};
  return {json.value("host", ""), json.value("pid", 0L)};
}

timespec touched_at(int descriptor) {
  struct stat status {};
  ::fstat(descriptor, &status);
  return status.st_mtim;
}

/// Whether somebody touches the file while we watch: a holder on a host whose locks we do not see.
bool is_touched_by_someone(int descriptor) {
  const timespec before = touched_at(descriptor);
  for (const Stopwatch watch; watch.elapsed_s() < kStaleAfter_s;) {
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    const timespec now = touched_at(descriptor);
    if (now.tv_sec != before.tv_sec || now.tv_nsec != before.tv_nsec) return true;
  }
  return false;
}

/// Writes who we are; 0, or the system's reason why it cannot be done.
int write_holder(int descriptor) {
  const std::string text = Json{{"host", host_name()}, {"pid", ::getpid()}}.dump() + "\n";
  while (::ftruncate(descriptor, 0) != 0)
    if (errno != EINTR) return errno;
  for (std::size_t done = 0; done < text.size();) {
    const ssize_t wrote = ::pwrite(descriptor, text.data() + done, text.size() - done, static_cast<off_t>(done));
    if (wrote < 0 && errno != EINTR) return errno;
    if (wrote > 0) done += static_cast<std::size_t>(wrote);
  }
  return 0;
}

[[noreturn]] void refuse(const std::filesystem::path& path, const Holder& holder) {
  throw InputError(ErrorKind::usage, "another run works in '" + path.parent_path().string() + "'",
                   holder.host.empty() ? "it holds '" + path.string() + "'"
                                       : "process " + std::to_string(holder.pid) + " on host " + holder.host,
                   "Wait until it has ended, or give another output folder.");
}

}  // namespace

FolderLock::FolderLock(const std::filesystem::path& folder) : path_(folder / "run.lock") {
  for (;;) {
    descriptor_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (descriptor_ < 0)
      throw InputError(ErrorKind::io, "cannot make '" + path_.string() + "'", std::strerror(errno),
                       "Is the output folder writable?");
    const Holder holder = read_holder(descriptor_);
    // A file system without locks answers with another error: then the touches decide alone.
    if (::flock(descriptor_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
      ::close(descriptor_);
      refuse(path_, holder);
    }
    if (!holder.host.empty() && holder.host != host_name()) {
      log_info("'{}' was left by process {} on {}; looking whether it lives", path_.string(), holder.pid, holder.host);
      if (is_touched_by_someone(descriptor_)) {
        ::close(descriptor_);
        refuse(path_, holder);
      }
    }
    // The holder before us may have removed the file between our opening and locking it: then this is no file's name.
    struct stat ours {
    }, named{};
    if (::fstat(descriptor_, &ours) == 0 && ::stat(path_.c_str(), &named) == 0 && ours.st_ino == named.st_ino) {
      if (!holder.host.empty()) log_info("the run of process {} on {} is gone; going on", holder.pid, holder.host);
      break;
    }
    ::close(descriptor_);
  }
  if (const int reason = write_holder(descriptor_); reason != 0) {
    ::close(descriptor_);
    throw InputError(ErrorKind::io, "cannot write '" + path_.string() + "'", std::strerror(reason));
  }
}

FolderLock::~FolderLock() {
  ::unlink(path_.c_str());
  ::close(descriptor_);
}

bool FolderLock::heartbeat() {
  if (since_touch_.elapsed_s() < kTouchPeriod_s) return true;
  // Who was suspended for long may have been taken for gone, where locks are not seen from host to host.
  if (since_touch_.elapsed_s() > kStaleAfter_s && is_taken()) return false;
  since_touch_.restart();
  ::futimens(descriptor_, nullptr);
  return true;
}

bool FolderLock::is_taken() const {
  const int descriptor = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return false;  // the folder may be away for a moment
  const Holder holder = read_holder(descriptor);
  ::close(descriptor);
  return !holder.host.empty() && (holder.pid != ::getpid() || holder.host != host_name());
}

}  // namespace spectrace
