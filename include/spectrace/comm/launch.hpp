#pragma once

#include <functional>
#include <string>

namespace spectrace {

/// Looks an environment variable up; null if it is not set (std::getenv, or a table in tests).
using FindVariable = std::function<const char*(const char* name)>;

/// True if a launcher of MPI ranks (mpirun, or srun with a PMI) started this process: only then is MPI started, a plain
/// start on one process saves the third of a second that this takes.
bool is_launched_by_mpi(const FindVariable& find_variable);

/// srun without a PMI that the MPI library understands starts N processes that each believe to be alone, and N copies
/// of the run would write over each other's files. `world_size` is 1 where MPI was not started.
/// @throws InputError (usage) if this process is one of several tasks of a Slurm step, but alone in its world.
void expect_whole_world(int world_size, const FindVariable& find_variable);

/// Name of this host, as gethostname gives it.
std::string host_name();

}  // namespace spectrace
