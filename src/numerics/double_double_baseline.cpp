#define SPECTRACE_KERNEL kDoubleDoubleBaseline
#define SPECTRACE_LANES 2
#include "double_double_kernel.inl"
