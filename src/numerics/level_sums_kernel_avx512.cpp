#define SPECTRACE_LEVEL_SUMS level_sums_avx512
#define SPECTRACE_LANES 8
#include "level_sums_kernel.inl"
