#define SPECTRACE_LEVEL_SUMS level_sums_baseline
#define SPECTRACE_LANES 2
#include "level_sums_kernel.inl"
