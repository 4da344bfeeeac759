#include "spectrace/comm/launch.hpp"

#include <gtest/gtest.h>

#include <map>

#include "spectrace/core/error.hpp"

namespace spectrace {
namespace {

using Variables = std::map<std::string, std::string>;

FindVariable lookup_in(Variables variables) {
  return [variables](const char* name) -> const char* {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  };
}

TEST(launch, plain_start_is_no_mpi_launch) {
  EXPECT_FALSE(is_launched_by_mpi(lookup_in({})));
  EXPECT_FALSE(is_launched_by_mpi(lookup_in({{"SLURM_JOB_ID", "7"}, {"SLURM_NTASKS", "4"}, {"SLURM_PROCID", "0"}})));
}

TEST(launch, launchers_are_recognized) {
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK", "PMI_FD", "PALS_RANKID"})
    EXPECT_TRUE(is_launched_by_mpi(lookup_in({{name, "0"}}))) << name;
}

TEST(launch, srun_copies_without_a_pmi_are_refused_with_a_hint) {
  const auto find = lookup_in({{"SLURM_STEP_ID", "0"}, {"SLURM_NTASKS", "4"}, {"SLURM_PROCID", "2"}});
  try {
    expect_whole_world(1, find);
    FAIL() << "accepted";
  } catch (const InputError& error) {
    EXPECT_EQ(error.kind(), ErrorKind::usage);
    const std::string text = error.what();
    EXPECT_NE(text.find("4 processes"), std::string::npos) << text;
    EXPECT_NE(text.find("srun --mpi=list"), std::string::npos) << text;
    EXPECT_NE(text.find("--mpi=pmix"), std::string::npos) << text;
  }
}

TEST(launch, whole_worlds_are_accepted) {
  const Variables step = {{"SLURM_STEP_ID", "0"}, {"SLURM_NTASKS", "4"}, {"SLURM_STEP_NUM_TASKS", "4"}};
  EXPECT_NO_THROW(expect_whole_world(4, lookup_in(step)));
  EXPECT_NO_THROW(expect_whole_world(1, lookup_in({})));
  // One task of the step, in an allocation of four.
  auto one_task = step;
  one_task["SLURM_STEP_NUM_TASKS"] = "1";
  EXPECT_NO_THROW(expect_whole_world(1, lookup_in(one_task)));
  // The batch script itself, no step.
  EXPECT_NO_THROW(expect_whole_world(1, lookup_in({{"SLURM_NTASKS", "4"}, {"SLURM_PROCID", "0"}})));
  // mpirun -n 1 within a step of four.
  auto by_mpirun = step;
  by_mpirun["OMPI_COMM_WORLD_SIZE"] = "1";
  EXPECT_NO_THROW(expect_whole_world(1, lookup_in(by_mpirun)));
}

TEST(launch, the_steps_own_number_of_tasks_counts) {
  EXPECT_THROW(expect_whole_world(1, lookup_in({{"SLURM_STEP_ID", "3"}, {"SLURM_STEP_NUM_TASKS", "2"}})), InputError);
  EXPECT_NO_THROW(expect_whole_world(1, lookup_in({{"SLURM_STEP_ID", "3"}, {"SLURM_NTASKS", "2(x3)"}})));
}

TEST(launch, host_has_a_name) { EXPECT_FALSE(host_name().empty()); }

}  // namespace
}  // namespace spectrace
