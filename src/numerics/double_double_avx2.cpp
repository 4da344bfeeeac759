#define SPECTRACE_KERNEL kDoubleDoubleAvx2
#define SPECTRACE_LANES 4
#include "double_double_kernel.inl"
