#define SPECTRACE_KERNELS kSymmetricAvx2
#define SPECTRACE_LANES 4
#include "symmetric_kernels.inl"
