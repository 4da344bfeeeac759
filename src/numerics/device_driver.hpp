#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace spectrace {

/// What NVIDIA's driver says, asked without CUDA's headers or libraries: a program built on a machine without any of
/// them runs on one that has them.
struct CudaDriver {
  struct Gpu {
    std::string name, uuid;
    int num_multiprocessors = 0, major = 0, minor = 0;
    bool is_mps = false;  ///< contexts go through the Multi-Process Service
    bool is_mig = false;  ///< a slice of a GPU
  };
  bool is_there = false;  ///< the library could be opened
  std::string error;      ///< why it could not be opened, or does not start; empty if it did
  int version = 0;        ///< of CUDA that it serves: 13020 is 13.2
  std::vector<Gpu> gpus;
};

/// @param library libcuda.so.1, or a test's
CudaDriver ask_cuda_driver(const std::string& library);

namespace cuda_driver {
// CUdevice_attribute and CUresult as cuda.h has them; tests/device/cuda_headers.cpp holds them against it.
inline constexpr int kMultiprocessorCount = 16, kCapabilityMajor = 75, kCapabilityMinor = 76, kMpsEnabled = 133;
inline constexpr int kSuccess = 0, kNoDevice = 100;
inline constexpr std::size_t kUuidBytes = 16;
}  // namespace cuda_driver

}  // namespace spectrace
