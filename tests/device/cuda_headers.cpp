// What the program calls the driver by, without CUDA's headers, is what these say.
#include <cuda.h>

#include "../../src/numerics/device_driver.hpp"

using namespace spectrace;

static_assert(cuda_driver::kMultiprocessorCount == CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
static_assert(cuda_driver::kCapabilityMajor == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
static_assert(cuda_driver::kCapabilityMinor == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
static_assert(cuda_driver::kSuccess == CUDA_SUCCESS && cuda_driver::kNoDevice == CUDA_ERROR_NO_DEVICE);
static_assert(cuda_driver::kUuidBytes == sizeof(CUuuid));
#if CUDA_VERSION >= 12040
static_assert(cuda_driver::kMpsEnabled == CU_DEVICE_ATTRIBUTE_MPS_ENABLED);
#endif
// The types of the functions.
static_assert(sizeof(CUdevice) == sizeof(int) && sizeof(CUresult) == sizeof(int));
