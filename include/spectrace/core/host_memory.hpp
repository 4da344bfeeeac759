#pragma once

#include <cstdint>

namespace spectrace {

/// Memory that this process and those beside it may use: what the host has, or less where a control group (Slurm, a
/// container) says so. Bytes.
std::int64_t host_memory_bytes();

/// Highest resident memory of this program so far, bytes. Of what called it nothing counts: getrusage's figure begins
/// with the size of the process that started it.
std::uint64_t peak_memory_bytes();

/// What this program has in memory now, bytes.
std::int64_t resident_memory_bytes();

/// Gives what was freed back to the system. The allocator keeps it for the thread that freed it, and another thread
/// would take as much anew: to be called when something large is gone for good.
void return_freed_memory();

}  // namespace spectrace
