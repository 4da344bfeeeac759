#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace spectrace {

struct ProcessLimits {
  std::uint64_t seconds = 20;  ///< of CPU, and three times as many of the clock
  std::uint64_t memory_bytes = std::uint64_t{1} << 30;
  std::size_t output_bytes = 64 << 10;
};

/// How a process ended: what it printed, or why that is not to be had.
struct ProcessEnd {
  std::string output;
  std::string failure;  ///< "it ended by signal 11 (Segmentation fault)"; empty if it exited with 0
};

/// Starts the command and reads its standard output to the end. Started by posix_spawn, not fork: a rank has threads,
/// and MPI's memory must not be copied. It sees no variable by which launchers know ranks (else it could take itself
/// for one), gets the usual signals, and no standard input or error. When the time is over it is killed.
/// @throws InputError (io) if it cannot be started.
ProcessEnd run_limited(const std::vector<std::string>& command, const ProcessLimits& limits);

/// In that process, first of all: the limits, no core dump, an end when the parent's thread ends, nothing open but the
/// standard streams.
void limit_this_process(std::uint64_t seconds, std::uint64_t memory_bytes);

}  // namespace spectrace
