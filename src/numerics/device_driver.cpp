#include "device_driver.hpp"

#include <dlfcn.h>

#include <array>
#include <cstdlib>

namespace spectrace {
namespace {

using namespace cuda_driver;

/// The functions of the driver's API that are asked, under the names that the library exports.
struct Api {
  int (*init)(unsigned) = nullptr;
  int (*driver_version)(int*) = nullptr;
  int (*error_name)(int, const char**) = nullptr;
  int (*count)(int*) = nullptr;
  int (*get)(int*, int) = nullptr;
  int (*name)(char*, int, int) = nullptr;
  int (*attribute)(int*, int, int) = nullptr;
  int (*uuid)(void*, int) = nullptr;
};

template <typename F>
bool find(void* library, const char* symbol, F*& function) {
  function = reinterpret_cast<F*>(::dlsym(library, symbol));
  return function != nullptr;
}

bool find_all(void* library, Api& api) {
  return find(library, "cuInit", api.init) && find(library, "cuDriverGetVersion", api.driver_version) &&
         find(library, "cuGetErrorName", api.error_name) && find(library, "cuDeviceGetCount", api.count) &&
         find(library, "cuDeviceGet", api.get) && find(library, "cuDeviceGetName", api.name) &&
         find(library, "cuDeviceGetAttribute", api.attribute) && find(library, "cuDeviceGetUuid_v2", api.uuid);
}

std::string hex(const std::array<unsigned char, kUuidBytes>& bytes) {
  constexpr const char* digits = "0123456789abcdef";
  std::string text;
  for (const unsigned char byte : bytes) {
    text += digits[byte >> 4];
    text += digits[byte & 15];
  }
  return text;
}

CudaDriver::Gpu describe(const Api& api, int device) {
  CudaDriver::Gpu gpu;
  const auto attribute = [&](int which) {
    int value = 0;
    return api.attribute(&value, which, device) == kSuccess ? value : 0;
  };
  std::array<char, 256> name{};
  if (api.name(name.data(), static_cast<int>(name.size()) - 1, device) == kSuccess) gpu.name = name.data();
  std::array<unsigned char, kUuidBytes> uuid{};
  if (api.uuid(uuid.data(), device) == kSuccess) gpu.uuid = hex(uuid);
  gpu.num_multiprocessors = attribute(kMultiprocessorCount);
  gpu.major = attribute(kCapabilityMajor);
  gpu.minor = attribute(kCapabilityMinor);
  // Drivers older than the attribute answer with an error, and the variable is all that is known.
  gpu.is_mps = attribute(kMpsEnabled) != 0 || std::getenv("CUDA_MPS_PIPE_DIRECTORY") != nullptr;
  gpu.is_mig = gpu.name.find(" MIG ") != std::string::npos;
  return gpu;
}

}  // namespace

CudaDriver ask_cuda_driver(const std::string& library) {
  CudaDriver driver;
  void* const handle = ::dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) {
    driver.error = ::dlerror();
    return driver;
  }
  driver.is_there = true;
  Api api;
  if (!find_all(handle, api)) {
    driver.error = library + " is no CUDA driver of this decade: it lacks a function";
    return driver;
  }
  api.driver_version(&driver.version);
  if (const int code = api.init(0); code != kSuccess && code != kNoDevice) {
    const char* name = nullptr;
    api.error_name(code, &name);
    driver.error = "cuInit: " + (name == nullptr ? "error " + std::to_string(code) : std::string(name));
    return driver;
  } else if (code == kNoDevice) {
    return driver;
  }
  int count = 0;
  if (api.count(&count) != kSuccess) count = 0;
  for (int i = 0; i < count; ++i) {
    int device = 0;
    if (api.get(&device, i) == kSuccess) driver.gpus.push_back(describe(api, device));
  }
  return driver;
}

}  // namespace spectrace
