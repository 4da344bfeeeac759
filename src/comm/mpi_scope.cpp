#include <cctype>
#include <cstdlib>
#include <exception>

#include "mpi_calls.hpp"
#include "spectrace/comm/communicator.hpp"
#include "spectrace/comm/launch.hpp"
#include "spectrace/core/log.hpp"

namespace spectrace {

MpiScope::MpiScope(int& argc, char**& argv) : num_exceptions_(std::uncaught_exceptions()) {
  const FindVariable find_variable = [](const char* name) -> const char* { return std::getenv(name); };
  if (!is_launched_by_mpi(find_variable)) {
    expect_whole_world(1, find_variable);
    return;
  }
  int provided = 0, world_size = 0;
  // Only the main thread calls MPI: the workers of parallel_for compute, nothing else.
  SPECTRACE_MPI(MPI_Init_thread, &argc, &argv, MPI_THREAD_FUNNELED, &provided);
  SPECTRACE_MPI(MPI_Comm_set_errhandler, MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  SPECTRACE_MPI(MPI_Comm_set_errhandler, MPI_COMM_SELF, MPI_ERRORS_RETURN);
  started_ = true;
  if (provided < MPI_THREAD_FUNNELED) {
    log_error("this MPI library ({}) cannot run in a program with threads", mpi_library_version());
    mpi::abort_all(3);
  }
  SPECTRACE_MPI(MPI_Comm_size, MPI_COMM_WORLD, &world_size);
  try {
    expect_whole_world(world_size, find_variable);
  } catch (...) {
    MPI_Finalize();  // a world of one: nobody waits for this process
    throw;
  }
}

MpiScope::~MpiScope() {
  if (!started_ || !mpi::is_active()) return;
  if (std::uncaught_exceptions() > num_exceptions_) mpi::abort_all(3);
  SPECTRACE_MPI(MPI_Finalize);
}

std::string mpi_library_version() {
  char text[MPI_MAX_LIBRARY_VERSION_STRING] = {};
  int length = 0;
  SPECTRACE_MPI(MPI_Get_library_version, text, &length);
  // "Open MPI v4.1.4, package: Debian OpenMPI, ident: ..." and "MPICH Version:      4.0.2\nMPICH Release date: ...":
  // the first part without the decoration.
  std::string version;
  for (const char* c = text; *c != '\0' && *c != ',' && *c != '\n'; ++c) {
    const bool is_space = std::isspace(static_cast<unsigned char>(*c)) != 0;
    if (is_space && (version.empty() || version.back() == ' ')) continue;
    if (*c == 'v' && std::isdigit(static_cast<unsigned char>(c[1])) != 0) continue;
    version += is_space ? ' ' : *c;
  }
  if (const auto word = version.find("Version: "); word != std::string::npos) version.erase(word, 9);
  return version;
}

}  // namespace spectrace
