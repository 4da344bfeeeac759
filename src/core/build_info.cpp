#include "spectrace/core/build_info.hpp"

namespace spectrace {

const char* program_version() { return SPECTRACE_VERSION; }
const char* build_description() { return SPECTRACE_BUILD_DESCRIPTION; }

}  // namespace spectrace
