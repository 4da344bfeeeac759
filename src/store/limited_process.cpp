#include "limited_process.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <string_view>

#include "spectrace/core/error.hpp"
#include "spectrace/core/stopwatch.hpp"

extern char** environ;

namespace spectrace {
namespace {

/// What mpirun, srun and PMI servers tell ranks.
constexpr std::array<std::string_view, 7> kLauncherVariables = {"OMPI_", "PMIX_",  "PMI_",  "PRTE_",
                                                                "MPI_",  "SLURM_", "HYDRA_"};

std::vector<char*> environment_without_launcher() {
  std::vector<char*> kept;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    const std::string_view text = *variable;
    if (std::none_of(kLauncherVariables.begin(), kLauncherVariables.end(),
                     [&](std::string_view prefix) { return text.starts_with(prefix); }))
      kept.push_back(*variable);
  }
  kept.push_back(nullptr);
  return kept;
}

/// posix_spawn's two objects, destroyed at the end of their life.
class SpawnSettings {
 public:
  explicit SpawnSettings(int output) {
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    ::posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
    ::posix_spawn_file_actions_adddup2(&actions, STDIN_FILENO, STDERR_FILENO);  // writing there fails, and nobody minds
    ::posix_spawnattr_init(&attributes);
    sigset_t none, all;
    ::sigemptyset(&none);
    ::sigfillset(&all);
    ::posix_spawnattr_setsigmask(&attributes, &none);
    ::posix_spawnattr_setsigdefault(&attributes, &all);
    ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  }
  ~SpawnSettings() {
    ::posix_spawn_file_actions_destroy(&actions);
    ::posix_spawnattr_destroy(&attributes);
  }
  SpawnSettings(const SpawnSettings&) = delete;
  SpawnSettings& operator=(const SpawnSettings&) = delete;

  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
};

/// What comes out of the pipe until its end, the deadline or the most that is wanted; why it was cut short goes to
/// `failure`.
std::string read_output(int pipe, const ProcessLimits& limits, std::string& failure) {
  const double deadline_s = 3 * static_cast<double>(limits.seconds);
  std::string output;
  for (const Stopwatch watch;;) {
    const double left_s = deadline_s - watch.elapsed_s();
    pollfd waiting{pipe, POLLIN, 0};
    const int ready = left_s <= 0 ? 0 : ::poll(&waiting, 1, static_cast<int>(1000 * left_s) + 1);
    if (ready < 0 && errno == EINTR) continue;
    if (ready == 0) {
      failure = "it took more than " + std::to_string(static_cast<std::uint64_t>(deadline_s)) + " s";
      return output;
    }
    char block[4096];
    const ssize_t got = ::read(pipe, block, sizeof block);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return output;
    output.append(block, static_cast<std::size_t>(got));
    if (output.size() > limits.output_bytes) {
      failure = "it said more than " + std::to_string(limits.output_bytes) + " bytes";
      return output;
    }
  }
}

std::string describe_end(int status, const ProcessLimits& limits) {
  if (WIFEXITED(status))
    return WEXITSTATUS(status) == 0 ? "" : "it ended with code " + std::to_string(WEXITSTATUS(status));
  const int signal = WTERMSIG(status);
  if (signal == SIGXCPU) return "it took more than " + std::to_string(limits.seconds) + " s of computing";
  return "it ended by signal " + std::to_string(signal) + " (" + ::strsignal(signal) + ")";
}

}  // namespace

ProcessEnd run_limited(const std::vector<std::string>& command, const ProcessLimits& limits) {
  std::vector<char*> arguments;
  for (const auto& argument : command) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  const std::vector<char*> environment = environment_without_launcher();
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0)
    throw InputError(ErrorKind::io, "cannot start '" + command.front() + "'", std::strerror(errno));
  pid_t process = 0;
  int reason = 0;
  {
    const SpawnSettings settings(ends[1]);
    reason = ::posix_spawn(&process, command.front().c_str(), &settings.actions, &settings.attributes, arguments.data(),
                           environment.data());
  }
  ::close(ends[1]);
  if (reason != 0) {
    ::close(ends[0]);
    throw InputError(ErrorKind::io, "cannot start '" + command.front() + "'", std::strerror(reason));
  }
  ProcessEnd end;
  end.output = read_output(ends[0], limits, end.failure);
  ::close(ends[0]);
  // It may live on without its output, or for no good.
  if (!end.failure.empty()) ::kill(process, SIGKILL);
  int status = 0;
  while (::waitpid(process, &status, 0) < 0 && errno == EINTR) continue;
  if (end.failure.empty()) end.failure = describe_end(status, limits);
  return end;
}

void limit_this_process(std::uint64_t seconds, std::uint64_t memory_bytes) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  // Older systems do not know it; then the parent's files stay open here for the seconds that this takes.
#ifdef SYS_close_range
  ::syscall(SYS_close_range, 3u, ~0u, 0u);
#endif
  // What the program's own libraries have mapped comes on top: the first number of statm, in pages.
  std::uint64_t mapped_pages = 0;
  std::ifstream("/proc/self/statm") >> mapped_pages;
  const auto mapped_bytes = mapped_pages * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  const auto limit = [](auto resource, rlim_t most, rlim_t hard) {
    rlimit now{};
    ::getrlimit(resource, &now);
    const rlimit wanted{std::min(most, now.rlim_max), std::min(hard, now.rlim_max)};
    ::setrlimit(resource, &wanted);
  };
  limit(RLIMIT_AS, mapped_bytes + memory_bytes, mapped_bytes + memory_bytes);
  limit(RLIMIT_CPU, seconds, seconds + 1);  // of equal ones the signal would not say which limit it was
  limit(RLIMIT_CORE, 0, 0);
}

}  // namespace spectrace
