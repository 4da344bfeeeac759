#pragma once

#include <mpi.h>

namespace spectrace::mpi {

/// Holds a return code of MPI against MPI_SUCCESS; if it is not, logs the call, this rank and MPI's own text, and ends
/// all ranks. Not an exception: after an MPI error nothing can be said about the state of the other ranks.
void check(int code, const char* call);

/// Ends all ranks with the exit code, log flushed.
[[noreturn]] void abort_all(int exit_code);

/// MPI was started and not yet ended.
bool is_active();

}  // namespace spectrace::mpi

/// The one way to call MPI: SPECTRACE_MPI(MPI_Barrier, communicator).
#define SPECTRACE_MPI(function, ...) ::spectrace::mpi::check(function(__VA_ARGS__), #function)
