#include "spectrace/sweep/progress.hpp"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "spectrace/comm/launch.hpp"
#include "spectrace/core/file.hpp"
#include "spectrace/core/floats.hpp"
#include "spectrace/core/json.hpp"
#include "spectrace/core/log.hpp"
#include "spectrace/work/run_info.hpp"

namespace spectrace {
namespace {

constexpr double kBarPeriod_s = 0.2, kLinePeriod_s = 30, kJsonPeriod_s = 2;

std::string duration(double seconds) {
  if (!std::isfinite(seconds)) return "?";
  const auto whole = static_cast<long>(seconds + 0.5);
  if (whole >= 3600) return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
  return fmt::format("{}:{:02}", whole / 60, whole % 60);
}

/// Whether what is written to standard error comes to a terminal: by itself, or by mpirun, which passes on what comes
/// in by a pipe.
bool writes_to_terminal() {
  if (::isatty(STDERR_FILENO) == 1) return true;
  struct stat status {};
  if (std::getenv("OMPI_COMM_WORLD_SIZE") == nullptr) return false;
  if (::fstat(STDERR_FILENO, &status) != 0 || !S_ISFIFO(status.st_mode)) return false;
  std::error_code error;
  const auto target = std::filesystem::read_symlink(fmt::format("/proc/{}/fd/2", ::getppid()), error).string();
  return target.starts_with("/dev/pts/") || target.starts_with("/dev/tty");
}

}  // namespace

double SweepState::fraction() const {
  if (state.starts_with("done")) return 1;
  if (num_models == 0 || num_opened == 0 || known_flops <= 0) return 0;
  const double expected = known_flops * static_cast<double>(num_models) / static_cast<double>(num_opened);
  return std::clamp(done_flops / expected, 0.0, 1.0);
}

double SweepState::seconds_to_go(double elapsed_s) const {
  if (state.starts_with("done")) return 0;  // whatever was expected of work that earlier starts had done
  const double done_here = done_flops - earlier_flops;
  if (done_here <= 0 || num_opened == 0) return kNaN;
  const double expected = known_flops * static_cast<double>(num_models) / static_cast<double>(num_opened);
  return elapsed_s * std::max(0.0, expected - done_flops) / done_here;
}

ProgressDisplay::ProgressDisplay(std::filesystem::path json_path)
    : json_path_(std::move(json_path)), terminal_(writes_to_terminal()) {}

ProgressDisplay::~ProgressDisplay() { clear_line(); }

void ProgressDisplay::update(const SweepState& state) {
  if (json_watch_.elapsed_s() > kJsonPeriod_s) write(state);
  if (shown_watch_.elapsed_s() < (terminal_ ? kBarPeriod_s : kLinePeriod_s)) return;
  shown_watch_.restart();
  show(state);
}

void ProgressDisplay::show(const SweepState& state) {
  const double elapsed_s = run_watch_.elapsed_s(), share = state.fraction();
  const std::string where = fmt::format("{:.0f} %, {} of {} models done, {} of {} ranks at work, {} elapsed, {} to go",
                                        100 * share, state.num_finished, state.num_models, state.num_busy,
                                        state.num_ranks, duration(elapsed_s), duration(state.seconds_to_go(elapsed_s)));
  if (!terminal_) {
    log_info("{}", where);
    return;
  }
  constexpr int kWidth = 24;
  const int filled = static_cast<int>(share * kWidth);
  std::fprintf(stderr, "\r\033[K[%s%s] %s", std::string(static_cast<std::size_t>(filled), '#').c_str(),
               std::string(static_cast<std::size_t>(kWidth - filled), '.').c_str(), where.c_str());
  std::fflush(stderr);
  line_shown_ = true;
}

void ProgressDisplay::clear_line() {
  if (!line_shown_) return;
  std::fputs("\r\033[K", stderr);
  std::fflush(stderr);
  line_shown_ = false;
}

void ProgressDisplay::write(const SweepState& state) {
  json_watch_.restart();
  const double elapsed_s = run_watch_.elapsed_s(), to_go = state.seconds_to_go(elapsed_s);
  Json json = {{"state", state.state},
               {"fraction", state.fraction()},
               {"num_models", state.num_models},
               {"num_models_done", state.num_finished},
               {"num_ranks", state.num_ranks},
               {"num_ranks_at_work", state.num_busy},
               {"elapsed_s", elapsed_s},
               {"host", host_name()},
               {"pid", ::getpid()},
               {"updated", utc_time()}};
  json["seconds_to_go"] = std::isfinite(to_go) ? Json(to_go) : Json();
  try {
    write_file_atomically(json_path_, json.dump(2) + "\n");
  } catch (const InputError& error) {
    if (!warned_) log_warning("{} The run goes on without it.", error.what());
    warned_ = true;
  }
}

}  // namespace spectrace
