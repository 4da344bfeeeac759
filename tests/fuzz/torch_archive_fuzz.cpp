#include <cstddef>
#include <cstdint>

#include "fuzz/checkpoint_target.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  spectrace::open_as_checkpoint({reinterpret_cast<const char*>(data), size}, "pytorch_model.bin");
  return 0;
}
