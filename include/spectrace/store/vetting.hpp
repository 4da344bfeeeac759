#pragma once

#include <string>
#include <vector>

namespace spectrace {

/// Foreign bytes can crash HDF5, make it run for ever or take all memory; not in a rank, therefore: a results file that
/// was touched since this program wrote it (src/store/seal.hpp) is first read in whole by a process of its own, under
/// limits. `command` starts one: the program and the arguments in front of a file, a number of seconds and one of bytes;
/// it does what vet_results does. Without a command (tests) files are read as they are.
void use_vetting_command(std::vector<std::string> command);

/// That process: limits itself, reads the file, and prints what became of it. Returns its exit code.
/// @pre nothing else runs in it: what it has open beside standard streams is closed.
int vet_results(const std::string& path, const std::string& seconds, const std::string& memory_bytes);

}  // namespace spectrace
