#define SPECTRACE_CHASE chase_baseline
#define SPECTRACE_LANES 2
#include "bulge_chasing_kernel.inl"
