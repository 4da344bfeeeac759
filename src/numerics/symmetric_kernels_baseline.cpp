#define SPECTRACE_KERNELS kSymmetricBaseline
#define SPECTRACE_LANES 2
#include "symmetric_kernels.inl"
