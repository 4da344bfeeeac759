#include "spectrace/plan/machine_profile.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "spectrace/core/file.hpp"
#include "spectrace/core/json.hpp"
#include "spectrace/core/log.hpp"

namespace spectrace {
namespace {

/// Of T threads, T to this power are gained where nothing was measured.
constexpr double kThreadsGain = 0.8;

}  // namespace

double WorkRates::seconds_of(const Unit& unit) const {
  if (unit.of_batch() != nullptr) return unit.flops / prompt_flops_per_s;
  return unit.flops / (unit.of_rows() != nullptr ? unembedding_flops_per_s : spectra_flops_per_s);
}

WorkRates MachineProfile::rates_of(const std::string& key, int num_threads) const {
  if (const auto found = measured.find(key); found != measured.end()) return found->second;
  WorkRates rates = *this;
  const double gain = std::pow(num_threads, kThreadsGain);
  rates.prompt_flops_per_s *= gain;
  rates.spectra_flops_per_s *= gain;
  rates.unembedding_flops_per_s *= gain;
  return rates;
}

double MachineProfile::read_bytes_per_s_of(const WorkRates& rates, int num_ranks) const {
  return std::min(rates.read_bytes_per_s, file_system_bytes_per_s / num_ranks);
}

std::string rates_key(const ModelDescription& model, const Job& job, int num_threads) {
  std::string analyses;
  for (const Chosen& chosen : job.analyses)
    analyses += chosen.name() + (chosen.settings.empty() ? "" : chosen.settings.dump()) + " ";
  return fmt::format("hidden {} heads {}/{} of {} mlp {} vocab {} {} {}threads {}", model.hidden_size, model.num_heads,
                     model.num_kv_heads, model.head_dim, model.intermediate_size, model.vocab_size,
                     name(job.compute.dtype), analyses, num_threads);
}

std::filesystem::path default_profile_path() {
  if (const char* path = std::getenv("SPECTRACE_PROFILE"); path != nullptr && *path != '\0') return path;
  if (const char* cache = std::getenv("XDG_CACHE_HOME"); cache != nullptr && *cache == '/')
    return std::filesystem::path(cache) / "spectrace" / "machine.json";
  const char* home = std::getenv("HOME");
  return std::filesystem::path(home != nullptr && *home == '/' ? home : ".") / ".cache" / "spectrace" / "machine.json";
}

MachineProfile read_machine_profile(const std::filesystem::path& path) {
  MachineProfile profile;
  if (is_absent(path)) return profile;
  try {
    const JsonNode document = JsonNode::parse_file(path, ErrorKind::io);
    const Json& all = document.json();
    profile.file_system_bytes_per_s = all.value("file_system_bytes_per_s", profile.file_system_bytes_per_s);
    profile.network_bytes_per_s = all.value("network_bytes_per_s", profile.network_bytes_per_s);
    for (const auto& [key, rates] : all.at("measured").items())
      profile.measured[key] = {rates.at("prompt_flops_per_s"), rates.at("spectra_flops_per_s"),
                               rates.at("unembedding_flops_per_s"), rates.at("read_bytes_per_s")};
  } catch (const std::exception& problem) {
    log_warning("cannot use the machine profile '{}': {}. Times are of a typical core.", path.string(), problem.what());
    return {};
  }
  return profile;
}

void write_machine_profile(const std::filesystem::path& path, const MachineProfile& profile) {
  Json all = {{"file_system_bytes_per_s", profile.file_system_bytes_per_s},
              {"network_bytes_per_s", profile.network_bytes_per_s},
              {"measured", Json::object()}};
  for (const auto& [key, rates] : profile.measured)
    all["measured"][key] = {{"prompt_flops_per_s", rates.prompt_flops_per_s},
                            {"spectra_flops_per_s", rates.spectra_flops_per_s},
                            {"unembedding_flops_per_s", rates.unembedding_flops_per_s},
                            {"read_bytes_per_s", rates.read_bytes_per_s}};
  create_folders(path.parent_path());
  write_file_atomically(path, all.dump(2) + "\n");
}

}  // namespace spectrace
