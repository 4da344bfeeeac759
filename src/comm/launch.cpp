#include "spectrace/comm/launch.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <string_view>

#include "spectrace/core/error.hpp"

namespace spectrace {
namespace {

/// Number in the variable; 0 if it is not set or no number ("2(x3)").
int number_in(const FindVariable& find_variable, const char* name) {
  const char* text = find_variable(name);
  if (text == nullptr) return 0;
  const std::string_view digits(text);
  int value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  return error == std::errc{} && end == digits.data() + digits.size() ? value : 0;
}

}  // namespace

bool is_launched_by_mpi(const FindVariable& find_variable) {
  // Open MPI's mpirun; PMIx; PMI-1 and PMI-2 (MPICH, Intel MPI, MVAPICH, srun --mpi=pmi2); Cray PALS and ALPS; IBM JSM;
  // Flux.
  static constexpr std::array names = {"OMPI_COMM_WORLD_SIZE",
                                       "PMIX_RANK",
                                       "PMI_RANK",
                                       "PMI_FD",
                                       "PMI_ID",
                                       "PMI_SIZE",
                                       "PALS_RANKID",
                                       "ALPS_APP_PE",
                                       "MPI_LOCALRANKID",
                                       "JSM_NAMESPACE_RANK",
                                       "MV2_COMM_WORLD_RANK",
                                       "FLUX_TASK_RANK"};
  return std::any_of(names.begin(), names.end(), [&](const char* name) { return find_variable(name) != nullptr; });
}

void expect_whole_world(int world_size, const FindVariable& find_variable) {
  if (world_size != 1 || find_variable("SLURM_STEP_ID") == nullptr) return;
  // mpirun inside of a step knows better: it started the number of ranks that it was asked for.
  if (number_in(find_variable, "OMPI_COMM_WORLD_SIZE") == 1) return;
  // The step's own number where it is set: an interactive step of one task may lie in an allocation of many.
  int num_tasks = number_in(find_variable, "SLURM_STEP_NUM_TASKS");
  if (num_tasks == 0) num_tasks = number_in(find_variable, "SLURM_NTASKS");
  if (num_tasks <= 1) return;
  throw InputError(ErrorKind::usage,
                   "srun started " + std::to_string(num_tasks) +
                       " processes that know nothing of each other: each is a world of one MPI rank",
                   "srun's --mpi plugin does not match the MPI library",
                   "See `srun --mpi=list` and name the matching one, for Open MPI `srun --mpi=pmix`; or use mpirun; or "
                   "ask for one task only.");
}

std::string host_name() {
  std::array<char, 256> name{};
  ::gethostname(name.data(), name.size() - 1);
  return name.data();
}

}  // namespace spectrace
