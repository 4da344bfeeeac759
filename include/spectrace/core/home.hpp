#pragma once

#include <string>

namespace spectrace {

/// "~" and "~/…" with the home folder (HOME) in the place of the tilde; anything else, "~user/…" too, as it is.
std::string expand_home(const std::string& path);

}  // namespace spectrace
