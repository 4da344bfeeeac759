#include "spectrace/core/host_memory.hpp"

#include <malloc.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

namespace spectrace {
namespace {

/// A limit file's number; "max" and what cannot be read are none.
void lower_to(const std::filesystem::path& file, std::int64_t& limit) {
  std::ifstream in(file);
  std::int64_t bytes = 0;
  if (in >> bytes && bytes > 0) limit = std::min(limit, bytes);
}

/// A line of /proc/self/status, of which this is the beginning; in bytes, as the system says kB. 0 where there is none.
std::uint64_t status_bytes(std::string_view key) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with(key)) return std::stoull(line.substr(key.size())) * 1024;
  return 0;
}

}  // namespace

std::int64_t host_memory_bytes() {
  std::int64_t limit = static_cast<std::int64_t>(::sysconf(_SC_PHYS_PAGES)) * ::sysconf(_SC_PAGESIZE);
  // Lines "hierarchy:controllers:path". Every group above counts as well.
  std::ifstream groups("/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    const auto first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const bool is_v2 = controllers.empty();
    if (!is_v2 && controllers.find("memory") == std::string::npos) continue;
    const std::filesystem::path root = is_v2 ? "/sys/fs/cgroup" : "/sys/fs/cgroup/memory";
    const char* const name = is_v2 ? "memory.max" : "memory.limit_in_bytes";
    std::filesystem::path group = line.substr(second + 2);
    for (lower_to(root / group / name, limit); !group.empty(); group = group.parent_path())
      lower_to(root / group / name, limit);
    lower_to(root / name, limit);
  }
  return limit;
}

std::uint64_t peak_memory_bytes() {
  // Of the address space that exec made.
  if (const std::uint64_t peak = status_bytes("VmHWM:"); peak > 0) return peak;
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::uint64_t>(usage.ru_maxrss) * 1024;
}

std::int64_t resident_memory_bytes() { return static_cast<std::int64_t>(status_bytes("VmRSS:")); }

void return_freed_memory() {
#ifdef __GLIBC__
  ::malloc_trim(0);
#endif
}

}  // namespace spectrace
