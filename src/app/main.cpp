#include <fmt/format.h>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <string_view>

#include "spectrace/app/command_line.hpp"
#include "spectrace/app/commands.hpp"
#include "spectrace/comm/communicator.hpp"
#include "spectrace/core/log.hpp"
#include "spectrace/store/vetting.hpp"

namespace {

using namespace spectrace;

int exit_code_of(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::usage: return kWrongUsage;
    case ErrorKind::io: return kNothingReadOrWritten;
    case ErrorKind::model:
    case ErrorKind::prompt: return kSomeFailed;
  }
  return kWrongUsage;
}

/// run under MPI. An InputError here is the same on all ranks (run_job's promise): root says it, all leave with its
/// code.
RunEnd run_under_mpi(const CommandLine& line, int& argc, char**& argv) {
  // Before MPI: it ends after it.
  TimeLimit limit;
  limit.begin(
      line.run.step_limit_s(),
      fmt::format("MPI's start has taken {:.0f} s and does not end. Are all hosts of the ranks up, and do their "
                  "names differ? OMPI_MCA_btl=tcp,self helps where hosts of one name share /dev/shm. "
                  "(--deadline sets the time.)",
                  line.run.step_limit_s()),
      kNothingReadOrWritten);
  MpiScope mpi(argc, argv);
  limit.end();
  const auto communicator = Communicator::world();
  set_log(parse_log_level(line.log_level), communicator->rank());
  try {
    return run_job(line.run, *communicator, limit);
  } catch (const InputError& error) {
    if (communicator->is_root()) log_error("{}", error.what());
    return {exit_code_of(error.kind()), false};
  } catch (const std::exception& error) {
    log_error("{}. This is a bug in spectrace, or the machine is out of memory.", error.what());
    flush_log();
    communicator->abort(kNothingReadOrWritten);
    return {kNothingReadOrWritten, false};  // not reached
  }
}

/// Leaves at once. What libraries would still tidy up takes libtorch a good part of a small job's time; a thread of an
/// abandoned run may still use it; and a rank that is done could still be stopped there, which mpirun would wait for.
[[noreturn]] void leave(int exit_code) {
  flush_log();
  std::cout.flush();
  std::fflush(nullptr);
  std::_Exit(exit_code);
}

int dispatch(const CommandLine& line, const CLI::App& app, int& argc, char**& argv) {
  if (line.subcommand == "run") {
    const RunEnd end = run_under_mpi(line, argc, argv);
    if (end.abandoned) leave(end.exit_code);
    return end.exit_code;
  }
  set_log(parse_log_level(line.log_level), 0);
  if (line.subcommand == "plan") return command_plan(line);
  if (line.subcommand == "check") return command_check(line);
  if (line.subcommand == "inspect") return command_inspect(line);
  if (line.subcommand == "tokenize") return command_tokenize(line);
  if (line.subcommand == "diff") return command_diff(line);
  if (line.subcommand == "describe") return command_describe(line);
  if (line.subcommand == "families") return command_families(line);
  fmt::print("{}", completion_script(app, line.shell));
  return kAllDone;
}

int run_program(int argc, char** argv) {
  // Not for users: the program starts itself so, and what it does there never becomes a rank.
  constexpr const char* vet = "vet-results";
  if (argc == 6 && argv[1] == std::string_view(vet)) vet_results(argv[2], argv[3], argv[4], argv[5]);
  use_vetting_command({"/proc/self/exe", vet});
  CommandLine line;
  const auto app = make_command_line(line);
  try {
    app->parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app->exit(error) == 0 ? kAllDone : kWrongUsage;
  }
  line.subcommand = app->get_subcommands().front()->get_name();
  line.run.job_path = line.target;
  try {
    return dispatch(line, *app, argc, argv);
  } catch (const InputError& error) {
    log_error("{}", error.what());
    return exit_code_of(error.kind());
  } catch (const std::exception& error) {
    log_error("{}. This is a bug in spectrace.", error.what());
    return kNothingReadOrWritten;
  }
}

}  // namespace

int main(int argc, char** argv) {
  const int exit_code = run_program(argc, argv);
#ifdef __SANITIZE_ADDRESS__  // it looks for leaks at the end
  return exit_code;
#else
  leave(exit_code);
#endif
}
