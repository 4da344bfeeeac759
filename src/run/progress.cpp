#include "spectrace/run/progress.hpp"

#include <fmt/chrono.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <thread>

#include "spectrace/comm/launch.hpp"
#include "spectrace/core/file.hpp"
#include "spectrace/core/json.hpp"
#include "spectrace/core/log.hpp"

namespace spectrace {
namespace {

constexpr int kTagDone = 101, kTagOutcome = 102, kTagEveryone = 103;
constexpr double kBarPeriod_s = 0.2, kLinePeriod_s = 30, kJsonPeriod_s = 2, kSendPeriod_s = 0.2;

std::string duration(double seconds) {
  const auto whole = static_cast<long>(seconds + 0.5);
  if (whole >= 3600) return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
  return fmt::format("{}:{:02}", whole / 60, whole % 60);
}

}  // namespace

Progress::Progress(Communicator& communicator, std::filesystem::path json_path, std::size_t num_models)
    : communicator_(communicator), json_path_(std::move(json_path)), num_models_(num_models) {
  terminal_ = communicator.is_root() && ::isatty(STDERR_FILENO) == 1;
}

Progress::~Progress() { clear_line(); }

void Progress::start_model(std::size_t index, const std::string& name, double total, double done) {
  model_index_ = index;
  model_name_ = name;
  total_ = total;
  done_ = done_at_start_ = done;
  model_watch_.restart();
  shown_watch_.restart();
  if (communicator_.is_root()) write_json("running");
}

void Progress::add(double flops) {
  if (communicator_.is_root()) {
    done_ += flops;
    collect();
    show(false);
    return;
  }
  unsent_ += flops;
  if (sent_watch_.elapsed_s() < kSendPeriod_s) return;
  communicator_.send(0, kTagDone, std::string(reinterpret_cast<const char*>(&unsent_), sizeof unsent_));
  unsent_ = 0;
  sent_watch_.restart();
}

void Progress::collect() {
  while (const auto message = communicator_.try_receive(kTagDone)) {
    double flops = 0;
    std::memcpy(&flops, message->bytes.data(), std::min(sizeof flops, message->bytes.size()));
    done_ += flops;
  }
}

std::vector<std::string> Progress::finish_share(const std::string& outcome) {
  using namespace std::chrono_literals;
  const int size = communicator_.size();
  std::vector<std::string> outcomes(static_cast<std::size_t>(size));
  if (!communicator_.is_root()) {
    communicator_.send(0, kTagOutcome, outcome);
    for (;;) {
      if (const auto message = communicator_.try_receive(kTagEveryone)) {
        const Json all = Json::parse(message->bytes);
        for (std::size_t i = 0; i < outcomes.size(); ++i) outcomes[i] = all[i].get<std::string>();
        return outcomes;
      }
      std::this_thread::sleep_for(1ms);
    }
  }
  outcomes[0] = outcome;
  for (int num_through = 1; num_through < size;) {
    collect();
    if (auto message = communicator_.try_receive(kTagOutcome)) {
      outcomes[static_cast<std::size_t>(message->source)] = std::move(message->bytes);
      ++num_through;
    } else {
      show(false);
      std::this_thread::sleep_for(1ms);
    }
  }
  collect();
  show(true);
  clear_line();
  const std::string everyone = Json(outcomes).dump();
  for (int rank = 1; rank < size; ++rank) communicator_.send(rank, kTagEveryone, everyone);
  return outcomes;
}

void Progress::show(bool now) {
  if (json_watch_.elapsed_s() > kJsonPeriod_s) write_json("running");
  if (shown_watch_.elapsed_s() < (terminal_ ? kBarPeriod_s : kLinePeriod_s) && !(now && terminal_)) return;
  shown_watch_.restart();
  const double share = total_ > 0 ? std::min(1.0, done_ / total_) : 1.0;
  const double elapsed_s = model_watch_.elapsed_s(), did = done_ - done_at_start_;
  const std::string eta = did > 0 ? duration(elapsed_s * (total_ - done_) / did) : "?";
  const std::string where = fmt::format("model {} of {}, {}: {:.0f} %, {} elapsed, {} to go", model_index_ + 1,
                                        num_models_, model_name_, 100 * share, duration(elapsed_s), eta);
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

void Progress::clear_line() {
  if (!line_shown_) return;
  std::fputs("\r\033[K", stderr);
  std::fflush(stderr);
  line_shown_ = false;
}

void Progress::write_json(const std::string& state) {
  json_watch_.restart();
  const double did = done_ - done_at_start_, elapsed_s = model_watch_.elapsed_s();
  // Of the sweep, models counted alike.
  const double of_model = total_ > 0 ? std::min(1.0, done_ / total_) : 1.0;
  const double fraction = state.starts_with("done") ? 1.0
                          : num_models_ == 0
                              ? 0.0
                              : (static_cast<double>(model_index_) + of_model) / static_cast<double>(num_models_);
  Json json = {{"state", state},
               {"model", model_name_},
               {"model_number", model_index_ + 1},
               {"num_models", num_models_},
               {"fraction_of_model", total_ > 0 ? std::min(1.0, done_ / total_) : 1.0},
               {"elapsed_s", run_watch_.elapsed_s()},
               {"fraction", fraction},
               {"host", host_name()},
               {"pid", ::getpid()},
               {"updated", fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr)))}};
  json["model_seconds_to_go"] = did > 0 ? Json(elapsed_s * std::max(0.0, total_ - done_) / did) : Json();
  write_file_atomically(json_path_, json.dump(2) + "\n");
}

void Progress::finish_run(const std::string& state) {
  clear_line();
  if (communicator_.is_root()) write_json(state);
}

}  // namespace spectrace
