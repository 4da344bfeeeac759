#pragma once

#include <functional>
#include <string>

#include "spectrace/comm/communicator.hpp"

namespace spectrace {

/// Runs `f` on root alone and gives its text to every rank. If it throws an InputError, every rank throws the same one:
/// no rank is left in a collective that root never enters. Collective.
std::string share_from_root(Communicator& communicator, const std::function<std::string()>& f);

}  // namespace spectrace
