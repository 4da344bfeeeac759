#include "seal.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "spectrace/core/error.hpp"
#include "spectrace/core/hash.hpp"

namespace spectrace {
namespace {

namespace fs = std::filesystem;

constexpr const char* kFolder = ".seals";
constexpr std::size_t kMostSealBytes = 1024;

fs::path seal_path(const fs::path& results) {
  return results.parent_path() / kFolder / (results.filename().string() + ".seal");
}

std::string status_line(const FileStatus& status) {
  return "spectrace-seal-1 " + std::to_string(status.size_bytes) + " " + std::to_string(status.modified_ns) + " " +
         std::to_string(status.changed_ns) + " " + std::to_string(status.inode) + "\n";
}

/// The seal's text; empty if there is none that could be one.
std::string read_seal(const fs::path& results) {
  try {
    const FileReader file(seal_path(results));
    if (file.size_bytes() > kMostSealBytes) return "";
    std::string text(file.size_bytes(), '\0');
    file.read_at(0, std::as_writable_bytes(std::span(text)));
    return text;
  } catch (const InputError&) {
    return "";
  }
}

void put_seal(const FileReader& results) {
  const fs::path path = seal_path(results.path());
  const std::string text = status_line(results.status()) + sha256_of_bytes(results) + "\n";
  constexpr int flags = O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW;
  int descriptor = ::open(path.c_str(), flags, 0666);
  if (descriptor < 0 && errno == ENOENT && (::mkdir(path.parent_path().c_str(), 0777) == 0 || errno == EEXIST))
    descriptor = ::open(path.c_str(), flags, 0666);
  if (descriptor < 0) return;
  // One that is not whole is none: the file is then looked at as if it had no seal.
  if (::write(descriptor, text.data(), text.size()) != static_cast<ssize_t>(text.size()))
    static_cast<void>(!::ftruncate(descriptor, 0));
  ::close(descriptor);
}

}  // namespace

std::string sha256_of_bytes(const FileReader& file) {
  Sha256 sha;
  std::vector<std::byte> block(std::size_t{1} << 20);
  for (std::uint64_t offset = 0; offset < file.size_bytes(); offset += block.size()) {
    const auto part = std::span(block).first(std::min<std::uint64_t>(block.size(), file.size_bytes() - offset));
    file.read_at(offset, part);
    sha.update(part);
  }
  return sha.hex_digest();
}

void write_seal(const fs::path& results) {
  try {
    put_seal(FileReader(results));
  } catch (const InputError&) {
    return;
  }
}

void renew_seal(const FileReader& results) {
  try {
    const std::string written = sealed_sha256(results.path());
    if (written.empty() || written == sha256_of_bytes(results)) put_seal(results);
  } catch (const InputError&) {
    return;
  }
}

bool is_sealed(const FileReader& results) {
  const std::string expected = status_line(results.status());
  const std::string found = read_seal(results.path());
  return found.size() > expected.size() && found.starts_with(expected);
}

std::string sealed_sha256(const fs::path& results) {
  const std::string text = read_seal(results);
  const auto line = text.find('\n');
  if (line == std::string::npos || text.back() != '\n') return "";
  return text.substr(line + 1, text.size() - line - 2);
}

}  // namespace spectrace
