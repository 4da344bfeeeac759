#pragma once

namespace spectrace {

/// "0.1.0"
const char* program_version();
/// "Release, g++ 12.2.0"
const char* build_description();

}  // namespace spectrace
