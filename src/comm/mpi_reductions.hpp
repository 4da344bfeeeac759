#pragma once

#include <memory>

#include "spectrace/comm/reductions.hpp"

namespace spectrace::mpi {

/// Over MPI's non-blocking collectives, on a communicator of its own. Collective. @pre MPI is active.
std::unique_ptr<Reductions> make_reductions();

}  // namespace spectrace::mpi
