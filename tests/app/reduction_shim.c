/* Sends the rank SHIM_RANK the signal SHIM_SIGNAL right after its SHIM_CALL-th non-blocking reduction has been posted: it
   is in the middle of one then. The program posts none beside those of statistics. Loaded by LD_PRELOAD. */
#include <mpi.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

static void count_call(void) {
  static long num_calls;  /* one thread of a rank posts reductions */
  const char *rank = getenv("SHIM_RANK"), *mine = getenv("OMPI_COMM_WORLD_RANK");
  if (rank == NULL || mine == NULL || strcmp(rank, mine) != 0) return;
  if (++num_calls == atol(getenv("SHIM_CALL"))) raise(atoi(getenv("SHIM_SIGNAL")));
}

int MPI_Ireduce(const void* from, void* into, int count, MPI_Datatype type, MPI_Op operation, int root, MPI_Comm comm,
                MPI_Request* request) {
  const int code = PMPI_Ireduce(from, into, count, type, operation, root, comm, request);
  count_call();
  return code;
}

int MPI_Iallreduce(const void* from, void* into, int count, MPI_Datatype type, MPI_Op operation, MPI_Comm comm,
                   MPI_Request* request) {
  const int code = PMPI_Iallreduce(from, into, count, type, operation, comm, request);
  count_call();
  return code;
}
