#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "spectrace/model/description.hpp"
#include "spectrace/plan/job.hpp"
#include "spectrace/plan/model_plan.hpp"

namespace spectrace {

/// How fast a rank works on a model. The defaults are of a typical core on a large model.
struct WorkRates {
  double prompt_flops_per_s = 6e10;       ///< matrix products and statistics of the forward pass
  double spectra_flops_per_s = 3e10;      ///< singular values of a layer's matrices and heads
  double unembedding_flops_per_s = 3e10;  ///< of the unembedding, and of whatever else is read in rows
  double read_bytes_per_s = 1e9;          ///< from the file system, converted; a rank alone

  /// What a unit takes, its reading aside.
  double seconds_of(const Unit& unit) const;
};

/// What planning knows of the machine. `plan --calibrate` measures a job's models and writes what it found for later
/// plans and runs on this machine.
struct MachineProfile : WorkRates {
  double file_system_bytes_per_s = 2e10;      ///< all ranks together
  double network_bytes_per_s = 1e9;           ///< from rank to rank
  double message_s = 0.002;                   ///< until a message is there, however short
  double open_s = 0.05, collect_s = 0.05;     ///< a model
  double collect_bytes_per_s = 3e8;           ///< records that become a file
  std::map<std::string, WorkRates> measured;  ///< by rates_key

  /// As measured, else the defaults for so many threads. `is_measured` says which.
  WorkRates rates_of(const std::string& key, int num_threads) const;
  bool is_measured(const std::string& key) const { return measured.contains(key); }
  /// What each of so many ranks gets when all of them read.
  double read_bytes_per_s_of(const WorkRates& rates, int num_ranks) const;
};

/// What the rates depend on: sizes of a layer, type, analyses, threads.
std::string rates_key(const ModelDescription& model, const Job& job, int num_threads);

/// $SPECTRACE_PROFILE, else spectrace/machine.json in $XDG_CACHE_HOME or ~/.cache.
std::filesystem::path default_profile_path();
/// The defaults where there is no such file, or it cannot be read: a warning says so.
MachineProfile read_machine_profile(const std::filesystem::path& path);
/// @throws InputError (io).
void write_machine_profile(const std::filesystem::path& path, const MachineProfile& profile);

}  // namespace spectrace
