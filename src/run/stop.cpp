#include "spectrace/run/stop.hpp"

#include <array>
#include <chrono>
#include <csignal>

namespace spectrace {
namespace {

volatile std::sig_atomic_t received_signal = 0;
constexpr std::array kSignals = {SIGTERM, SIGINT, SIGUSR1, SIGUSR2};

void on_signal(int signal) {
  if (signal == SIGINT && received_signal == SIGINT) {
    std::signal(SIGINT, SIG_DFL);
    std::raise(SIGINT);
  }
  received_signal = signal;
}

double now_s() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

}  // namespace

StopRequest::StopRequest(std::optional<double> max_hours) {
  received_signal = 0;
  if (max_hours) deadline_s_ = now_s() + *max_hours * 3600;
  for (const int signal : kSignals) std::signal(signal, on_signal);
}

StopRequest::~StopRequest() {
  for (const int signal : kSignals) std::signal(signal, SIG_DFL);
}

bool StopRequest::requested() const { return received_signal != 0 || (deadline_s_ && now_s() >= *deadline_s_); }

std::string StopRequest::reason() const {
  if (received_signal != 0) return "signal " + std::to_string(received_signal);
  return requested() ? "time limit" : "";
}

}  // namespace spectrace
