#include "spectrace/sweep/num_threads.hpp"

#include <fmt/format.h>
#include <sched.h>

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "spectrace/comm/launch.hpp"
#include "spectrace/core/parallel.hpp"
#include "spectrace/core/text.hpp"
#include "spectrace/numerics/tensor.hpp"

namespace spectrace {
namespace {

/// Cores that the scheduler lets this process run on.
std::vector<int> allowed_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::vector<int> cores;
  if (::sched_getaffinity(0, sizeof set, &set) == 0)
    for (int core = 0; core < CPU_SETSIZE; ++core)
      if (CPU_ISSET(core, &set)) cores.push_back(core);
  return cores;
}

std::string join(const std::vector<int>& cores) {
  std::string text;
  for (const int core : cores) text += " " + std::to_string(core);
  return text;
}

std::optional<int> said_num_threads(std::optional<int> asked) {
  if (asked) return asked;
  if (const char* variable = std::getenv("OMP_NUM_THREADS"))
    if (const int threads = std::atoi(variable); threads > 0) return std::min(threads, 1024);  // as a job may say
  return std::nullopt;
}

bool holds(const std::string& cores, int core) {
  std::istringstream words(cores);
  for (int other = 0; words >> other;)
    if (other == core) return true;
  return false;
}

}  // namespace

std::string allowed_cores_text() {
  const std::vector<int> cores = allowed_cores();
  std::string text;
  for (std::size_t first = 0; first < cores.size();) {
    std::size_t last = first;
    while (last + 1 < cores.size() && cores[last + 1] == cores[last] + 1) ++last;
    text += (text.empty() ? "" : ",") + std::to_string(cores[first]);
    if (last > first) text += "-" + std::to_string(cores[last]);
    first = last + 1;
  }
  return text;
}

int default_num_threads(std::optional<int> asked, int ranks_on_host) {
  if (const auto said = said_num_threads(asked)) return *said;
  return std::max(1, static_cast<int>(allowed_cores().size()) / std::max(1, ranks_on_host));
}

int choose_num_threads(std::optional<int> asked, Communicator& communicator) {
  const std::vector<int> mine = allowed_cores();
  const std::string host = host_name() + ":";
  const auto all = communicator.all_gather(host + join(mine));
  if (const auto said = said_num_threads(asked)) return *said;
  double share = 0;
  for (const int core : mine) {
    int num_users = 0;
    for (const auto& other : all) num_users += other.starts_with(host) && holds(other.substr(host.size()), core);
    share += 1.0 / std::max(1, num_users);
  }
  return std::max(1, static_cast<int>(share + 1e-9));
}

void start_compute_threads(int num_threads) {
  try {
    set_compute_threads(num_threads);
  } catch (const ThreadError& error) {
    throw no_threads(num_threads, error.why());
  }
}

InputError no_threads(int num_threads, const std::string& reason) {
  return InputError(
      ErrorKind::usage, fmt::format("cannot start {} on {}", number_of(num_threads, "compute thread"), host_name()),
      reason,
      "Ask for fewer (compute.threads, --threads or OMP_NUM_THREADS), start fewer ranks a host, or raise what limits "
      "them: ulimit -u and -v, the pids and memory limits of the container or batch job.");
}

}  // namespace spectrace
