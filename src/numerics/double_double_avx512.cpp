#define SPECTRACE_KERNEL kDoubleDoubleAvx512
#define SPECTRACE_LANES 8
#include "double_double_kernel.inl"
