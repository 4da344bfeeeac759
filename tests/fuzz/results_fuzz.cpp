#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <memory>

#include "fuzz/target.hpp"
#include "spectrace/core/log.hpp"
#include "spectrace/store/result_file.hpp"

// A results file. HDF5 itself crashes on some of them, and reads on for ever in others, which is why the program reads
// foreign ones in a process of its own, under limits (store/vetting.hpp); so does this target. What may not be: bytes
// that are taken and hold something else than what was written.
namespace {

using namespace spectrace;

constexpr long kMostSeconds = 3;
constexpr int kReadsOfAProcess = 1000;
constexpr char kTaken = 0, kRefused = 1, kOther = 2;

std::string text_of(const ResultTree& tree, const char* attribute) {
  const auto* value = tree.find_attribute(attribute);
  const auto* text = value == nullptr ? nullptr : std::get_if<std::string>(value);
  return text == nullptr ? "" : *text;
}

char read_results(const std::filesystem::path& path, const std::string& expected) {
  try {
    const ResultTree tree = read_result_file(path, WrongDigest::refused);
    // As read_earlier_results does: another format is refused, whatever it holds.
    if (text_of(tree, "Conventions") != kConventions) return kRefused;
    return digest_tree(tree) == expected && text_of(tree, "content_sha256") == expected ? kTaken : kOther;
  } catch (const InputError&) {
    return kRefused;
  }
}

/// Reads file after file, until one crashes it or takes more than kMostSeconds of processor time. One for every file
/// would spend nine tenths of its time in fork().
class ReadingProcess {
 public:
  ReadingProcess(const std::filesystem::path& path, const std::string& expected) {
    int sockets[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) != 0) std::abort();
    socket_ = sockets[0];
    std::fflush(nullptr);
    process_ = ::fork();  // this program has no other threads
    if (process_ < 0) std::abort();
    ::close(sockets[process_ == 0 ? 0 : 1]);
    if (process_ == 0) serve(sockets[1], path, expected);
  }
  ReadingProcess(const ReadingProcess&) = delete;
  ReadingProcess& operator=(const ReadingProcess&) = delete;
  ~ReadingProcess() {
    ::close(socket_);
    if (!ended_) ::waitpid(process_, nullptr, 0);
  }

  bool is_used_up() const { return ended_ || reads_ == kReadsOfAProcess; }

  /// What became of reading the file, or minus the signal that ended the process.
  int read() {
    char outcome = 0;
    ++reads_;
    if (::send(socket_, &outcome, 1, MSG_NOSIGNAL) == 1 && ::recv(socket_, &outcome, 1, 0) == 1) return outcome;
    int status = 0;
    ::waitpid(process_, &status, 0);
    ended_ = true;
    return WIFSIGNALED(status) ? -WTERMSIG(status) : -SIGABRT;  // sanitizers exit, after their report
  }

 private:
  [[noreturn]] static void serve(int socket, const std::filesystem::path& path, const std::string& expected) {
    // The driver's handlers keep an input that ends the driver; this process may crash.
    for (const int signal : {SIGSEGV, SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGALRM}) std::signal(signal, SIG_DFL);
    const rlimit none{0, 0};
    ::setrlimit(RLIMIT_CORE, &none);
#ifndef __SANITIZE_ADDRESS__  // its shadow takes terabytes of addresses
    const rlimit memory{std::uint64_t{4} << 30, std::uint64_t{4} << 30};
    ::setrlimit(RLIMIT_AS, &memory);
#endif
    char outcome = 0;
    while (::recv(socket, &outcome, 1, 0) == 1) {
      const itimerval limit{.it_interval = {}, .it_value = {.tv_sec = kMostSeconds, .tv_usec = 0}};
      ::setitimer(ITIMER_PROF, &limit, nullptr);
      outcome = read_results(path, expected);
      if (::send(socket, &outcome, 1, MSG_NOSIGNAL) != 1) break;
    }
    std::_Exit(0);
  }

  pid_t process_ = 0;
  int socket_ = -1, reads_ = 0;
  bool ended_ = false;
};

/// Says that reading crashed, or (SIGPROF) did not end; with SPECTRACE_FUZZ_KEEP=FOLDER the bytes are kept there.
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
    static std::unique_ptr<ReadingProcess> process;
    if (!process || process->is_used_up()) {
      process.reset();  // first: the next one would hold its socket open
      process = std::make_unique<ReadingProcess>(path, expected);
    }
    const int outcome = process->read();
    if (outcome == kTaken) return;
    if (outcome == kOther) {
      std::fprintf(stderr, "bytes were taken that hold something else\n");
      std::abort();
    }
    if (outcome < 0) keep(bytes, -outcome);
    throw InputError(ErrorKind::io, "refused");
  });
}
