#pragma once

#include <signal.h>
#include <sys/resource.h>

#include <cstdint>

namespace spectrace::test {

/// While it lives, no file of this process grows past the size: write() fails as it does on a full disk, for root too.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(std::uint64_t size_bytes) {
    old_handler_ = ::signal(SIGXFSZ, SIG_IGN);
    ::getrlimit(RLIMIT_FSIZE, &old_);
    const rlimit limit = {size_bytes, old_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &old_);
    ::signal(SIGXFSZ, old_handler_);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

 private:
  rlimit old_{};
  void (*old_handler_)(int) = nullptr;
};

}  // namespace spectrace::test
