// A CUDA driver of tests: FAKE_GPUS says how many GPUs there are, FAKE_INIT what cuInit answers.
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {
int number(const char* name) {
  const char* text = std::getenv(name);
  return text == nullptr ? 0 : std::atoi(text);
}
}  // namespace

extern "C" {
int cuInit(unsigned) { return number("FAKE_INIT"); }
int cuDriverGetVersion(int* version) {
  *version = 13020;
  return 0;
}
int cuGetErrorName(int code, const char** name) {
  *name = code == 803 ? "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH" : nullptr;
  return 0;
}
int cuDeviceGetCount(int* count) {
  *count = number("FAKE_GPUS");
  return 0;
}
int cuDeviceGet(int* device, int ordinal) {
  *device = 10 + ordinal;
  return 0;
}
int cuDeviceGetName(char* name, int size, int device) {
  std::snprintf(name, static_cast<std::size_t>(size),
                device == 11 ? "NVIDIA H100 80GB HBM3 MIG 1g.10gb" : "NVIDIA H100 80GB HBM3");
  return 0;
}
int cuDeviceGetAttribute(int* value, int which, int device) {
  *value = which == 16 ? (device == 11 ? 16 : 132) : which == 75 ? 9 : 0;
  return which == 133 ? 1 : 0;  // an older driver does not know the last one
}
int cuDeviceGetUuid_v2(void* uuid, int device) {
  std::memset(uuid, device, 16);
  return 0;
}
}
