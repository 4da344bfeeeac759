#define SPECTRACE_KERNELS kSymmetricAvx512
#define SPECTRACE_LANES 8
#include "symmetric_kernels.inl"
