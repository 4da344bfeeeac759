#pragma once

#include <functional>
#include <string>

#include "spectrace/comm/communicator.hpp"

namespace spectrace {

/// Runs `f` on root alone and gives its text to every rank. If it throws an InputError, every rank throws the same one:
/// no rank is left in a collective that root never enters. Collective.
std::string share_from_root(Communicator& communicator, const std::function<std::string()>& f);

/// Runs `f` on every rank. If it throws an InputError on some, every rank throws that of the lowest: a rank's own
/// trouble (its log file, its host's memory) never leaves the others waiting. Collective.
void on_every_rank(Communicator& communicator, const std::function<void()>& f);

}  // namespace spectrace
