#include "spectrace/sweep/stop.hpp"

#include <array>
#include <atomic>
#include <csignal>
#include <cstring>
#include <ctime>

namespace spectrace {
namespace {

// Any thread may be the one that takes a signal, and another one asks.
std::atomic<int> received_signal = 0;
std::atomic<double> received_at_s = 0;
static_assert(std::atomic<int>::is_always_lock_free && std::atomic<double>::is_always_lock_free);  // as in a handler
constexpr std::array kSignals = {SIGTERM, SIGINT, SIGUSR1, SIGUSR2};

double now_s() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);  // allowed in a signal handler, as std::chrono need not be
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

/// mpirun and Slurm may send one signal by two ways at once: a second one means it only some time later.
void on_signal(int signal) {
  if (received_signal != 0 && (signal == SIGINT || signal == SIGTERM) && now_s() - received_at_s > 1) {
    std::signal(signal, SIG_DFL);
    std::raise(signal);
  }
  if (received_signal == 0) received_at_s = now_s();
  received_signal = signal;
}

}  // namespace

StopRequest::StopRequest(std::optional<double> max_hours) {
  received_signal = 0;
  if (max_hours) deadline_s_ = now_s() + *max_hours * 3600;
  for (const int signal : kSignals) std::signal(signal, on_signal);
}

bool StopRequest::requested() const { return received_signal != 0 || (deadline_s_ && now_s() >= *deadline_s_); }

std::string StopRequest::reason() const {
  if (received_signal != 0) return std::string("SIG") + ::sigabbrev_np(received_signal);
  return requested() ? "time limit" : "";
}

}  // namespace spectrace
