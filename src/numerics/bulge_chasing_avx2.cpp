#define SPECTRACE_CHASE chase_avx2
#define SPECTRACE_LANES 4
#include "bulge_chasing_kernel.inl"
