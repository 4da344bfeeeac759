#pragma once

#include <cstdint>

namespace spectrace {

/// Memory that this process and those beside it may use: what the host has, or less where a control group (Slurm, a
/// container) says so. Bytes.
std::int64_t host_memory_bytes();

}  // namespace spectrace
