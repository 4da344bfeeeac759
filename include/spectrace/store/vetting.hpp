#pragma once

#include <string>
#include <vector>

namespace spectrace {

/// Foreign bytes can crash HDF5, make it run for ever or take all memory; not in a rank, therefore: a results file that
/// was touched since this program wrote it (src/store/seal.hpp) is first read in whole by a process of its own, under
/// limits. `command` starts one: the program and the arguments in front of those of vet_results,
/// which it calls. Without a command (tests) files are read as they are.
void use_vetting_command(std::vector<std::string> command);

/// That process: limits itself, reads the file as read_result_file does with the same `most_values`, prints what became
/// of it, and exits. What it has open beside the standard streams is closed.
[[noreturn]] void vet_results(const std::string& path, const std::string& most_values, const std::string& seconds,
                              const std::string& memory_bytes);

}  // namespace spectrace
