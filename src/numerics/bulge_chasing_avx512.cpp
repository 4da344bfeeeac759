#define SPECTRACE_CHASE chase_avx512
#define SPECTRACE_LANES 8
#include "bulge_chasing_kernel.inl"
