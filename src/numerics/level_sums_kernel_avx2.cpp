#define SPECTRACE_LEVEL_SUMS level_sums_avx2
#define SPECTRACE_LANES 4
#include "level_sums_kernel.inl"
