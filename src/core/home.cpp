#include "spectrace/core/home.hpp"

#include <cstdlib>

namespace spectrace {

std::string expand_home(const std::string& path) {
  if (path != "~" && !path.starts_with("~/")) return path;
  const char* const home = std::getenv("HOME");
  if (home == nullptr || *home == '\0') return path;
  return home + path.substr(1);
}

}  // namespace spectrace
