#include "mpi_calls.hpp"

#include <array>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "spectrace/comm/launch.hpp"
#include "spectrace/core/log.hpp"

namespace spectrace::mpi {

void check(int code, const char* call) {
  if (code == MPI_SUCCESS) return;
  std::array<char, MPI_MAX_ERROR_STRING> text{};
  int length = 0;
  if (MPI_Error_string(code, text.data(), &length) != MPI_SUCCESS) length = 0;
  int rank = -1;
  if (is_active()) MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  log_error("rank {} on {}: {} failed ({}). All ranks end.", rank, host_name(), call,
            std::string(text.data(), static_cast<std::size_t>(length)));
  abort_all(3);
}

void abort_all(int exit_code) {
  flush_log();
  std::fflush(nullptr);
  if (is_active()) MPI_Abort(MPI_COMM_WORLD, exit_code);
  std::_Exit(exit_code);
}

bool is_active() {
  int started = 0, ended = 0;
  MPI_Initialized(&started);
  MPI_Finalized(&ended);
  return started != 0 && ended == 0;
}

}  // namespace spectrace::mpi
