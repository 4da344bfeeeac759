#include "mapped_region.hpp"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <string>

#include "spectrace/core/error.hpp"

namespace spectrace {
namespace {

/// The region that this thread looks at.
struct Watched {
  std::uintptr_t begin = 0, end = 0;
  volatile std::sig_atomic_t has_failed = 0;
};
thread_local Watched watched;

struct sigaction action_before {};

std::uintptr_t page_bytes() {
  static const auto bytes = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  return bytes;
}

/// Puts zeros where the file has no more, up to the region's end, so that whoever looks at it comes to its end. A
/// signal of anything else goes to who was there before.
void on_bus_error(int number, siginfo_t* info, void* context) {
  const auto place = reinterpret_cast<std::uintptr_t>(info->si_addr);
  if (place >= watched.begin && place < watched.end) {
    const int error_before = errno;
    const std::uintptr_t first = place / page_bytes() * page_bytes();
    void* const zeros = ::mmap(reinterpret_cast<void*>(first), watched.end - first, PROT_READ,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    errno = error_before;
    watched.has_failed = 1;
    if (zeros != MAP_FAILED) return;
  }
  if ((action_before.sa_flags & SA_SIGINFO) != 0) return action_before.sa_sigaction(number, info, context);
  if (action_before.sa_handler != SIG_DFL && action_before.sa_handler != SIG_IGN)
    return action_before.sa_handler(number);
  ::signal(number, SIG_DFL);  // the same access again ends the process
}

void watch_bus_errors() {
  static const bool is_set = [] {
    page_bytes();  // not for the first time in the handler
    struct sigaction action {};
    action.sa_sigaction = on_bus_error;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigemptyset(&action.sa_mask);
    return ::sigaction(SIGBUS, &action, &action_before) == 0;
  }();
  static_cast<void>(is_set);
}

}  // namespace

MappedRegion::MappedRegion(const FileReader& file, std::uint64_t offset, std::uint64_t size) : file_(file) {
  SPECTRACE_ASSERT(watched.begin == watched.end);
  watch_bus_errors();
  struct stat status {};
  if (::fstat(file.descriptor(), &status) != 0 || static_cast<std::uint64_t>(status.st_size) < offset + size)
    throw file.became_shorter();
  const std::uint64_t start = offset / page_bytes() * page_bytes();
  length_ = offset + size - start;
  address_ =
      ::mmap(nullptr, length_, PROT_READ, MAP_PRIVATE | MAP_POPULATE, file.descriptor(), static_cast<off_t>(start));
  if (address_ == MAP_FAILED)
    throw InputError(ErrorKind::io, "cannot map '" + file.path().string() + "' into memory", std::strerror(errno),
                     "Use --io read.");
  data_ = static_cast<const std::byte*>(address_) + (offset - start);
  const auto begin = reinterpret_cast<std::uintptr_t>(address_);
  watched.has_failed = 0;
  watched.begin = begin;
  watched.end = begin + (length_ + page_bytes() - 1) / page_bytes() * page_bytes();
}

MappedRegion::~MappedRegion() {
  watched.begin = watched.end = 0;
  ::munmap(address_, length_);
}

void MappedRegion::expect_whole() const {
  if (watched.has_failed == 0) return;
  struct stat status {};
  if (::fstat(file_.descriptor(), &status) == 0 && static_cast<std::uint64_t>(status.st_size) < file_.size_bytes())
    throw file_.became_shorter();
  throw InputError(ErrorKind::io, "cannot read '" + file_.path().string() + "'", std::strerror(EIO));
}

}  // namespace spectrace
