#pragma once

#include <optional>
#include <string>

#include "spectrace/comm/communicator.hpp"
#include "spectrace/core/error.hpp"

namespace spectrace {

/// Threads for this rank: `asked`, else OMP_NUM_THREADS, else the cores that this rank may use, each shared among the
/// ranks of this host that may use it too. At least 1. Collective.
int choose_num_threads(std::optional<int> asked, Communicator& communicator);

/// Without the other ranks, for planning: `asked`, else OMP_NUM_THREADS, else an equal share of the cores that this
/// process may use.
int default_num_threads(std::optional<int> asked, int ranks_on_host);

/// Sets up this process's threads for computing, from the thread that computes (set_compute_threads).
/// @throws InputError (usage) with their number and the system's reason if it does not give them.
void start_compute_threads(int num_threads);

/// What start_compute_threads throws.
InputError no_threads(int num_threads, const std::string& reason);

/// Cores that this process may run on: "0-3,8".
std::string allowed_cores_text();

}  // namespace spectrace
