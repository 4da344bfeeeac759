#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "fuzz/target.hpp"
#include "spectrace/core/log.hpp"
#include "spectrace/store/result_file.hpp"
#include "spectrace/store/schema.hpp"

// A results file. HDF5 itself crashes on some of them, and reads on for ever in others, which is why the program reads
// foreign ones in a process of its own, under limits (store/vetting.hpp); so does this target. What may not be: bytes
// that are taken and hold something else than what was written.
namespace {

using namespace spectrace;

constexpr rlim_t kMostSeconds = 3;
constexpr int kTaken = 0, kRefused = 1, kOther = 2;

std::string text_of(const ResultTree& tree, const char* attribute) {
  const auto* value = tree.find_attribute(attribute);
  const auto* text = value == nullptr ? nullptr : std::get_if<std::string>(value);
  return text == nullptr ? "" : *text;
}

/// What became of reading it: an exit code of those above, or a signal as the system says it.
int status_of_reading(const std::filesystem::path& path, const std::string& expected) {
  std::fflush(nullptr);
  const pid_t process = ::fork();  // this program has no other threads
  if (process == 0) {
    const rlimit seconds{kMostSeconds, kMostSeconds}, none{0, 0};
    ::setrlimit(RLIMIT_CPU, &seconds);
    ::setrlimit(RLIMIT_CORE, &none);
#ifndef __SANITIZE_ADDRESS__  // its shadow takes terabytes of addresses
    const rlimit memory{std::uint64_t{4} << 30, std::uint64_t{4} << 30};
    ::setrlimit(RLIMIT_AS, &memory);
#endif
    try {
      const ResultTree tree = read_result_file(path, WrongDigest::refused);
      // As read_earlier_results does: another format is refused, whatever it holds.
      if (text_of(tree, "Conventions") != kConventions) std::_Exit(kRefused);
      std::_Exit(digest_tree(tree) == expected && text_of(tree, "content_sha256") == expected ? kTaken : kOther);
    } catch (const InputError&) {
      std::_Exit(kRefused);
    }
  }
  int status = 0;
  ::waitpid(process, &status, 0);
  return status;
}

/// Says that reading crashed, or (SIGKILL) did not end; with SPECTRACE_FUZZ_KEEP=FOLDER the bytes are kept there.
void keep(std::string_view bytes, int signal) {
  static long number = 0;
  std::printf("contained: %ld, signal %d\n", ++number, signal);
  const char* folder = std::getenv("SPECTRACE_FUZZ_KEEP");
  if (folder == nullptr) return;
  const std::string name = std::to_string(number) + "-signal" + std::to_string(signal) + ".h5";
  std::ofstream(std::filesystem::path(folder) / name, std::ios::binary) << bytes;
}

}  // namespace

std::string spectrace::fuzz::take(std::string_view bytes) {
  static const std::string expected = text_of(
      read_result_file(std::filesystem::path(SPECTRACE_SOURCE_DIR) / "tests/fuzz/seeds/results.h5"), "content_sha256");
  set_log(LogLevel::off, 0);
  return take_file(bytes, "m.h5", [&](const std::filesystem::path& path) {
    const int status = status_of_reading(path, expected);
    if (WIFEXITED(status) && WEXITSTATUS(status) == kTaken) return;
    if (WIFEXITED(status) && WEXITSTATUS(status) == kOther) {
      std::fprintf(stderr, "bytes were taken that hold something else\n");
      std::abort();
    }
    if (WIFSIGNALED(status)) keep(bytes, WTERMSIG(status));
    throw InputError(ErrorKind::io, "refused");
  });
}
