#pragma once

#include <memory>
#include <string>

#include "spectrace/comm/reductions.hpp"

namespace spectrace::nccl {

/// Why NCCL cannot be used: what this build or the ranks' GPUs lack; empty if it can. The same text on all ranks.
std::string find_obstacle(Communicator& communicator);  // collective

/// @pre find_obstacle() found none.
std::unique_ptr<Reductions> make_reductions(Communicator& communicator);  // collective

/// "NCCL 2.28.9", or "none" for a build without it.
std::string library_version();

}  // namespace spectrace::nccl
