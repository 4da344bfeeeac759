#include <cstddef>
#include <cstdint>
#include <cstring>

#include "fuzz/json_mutator.hpp"
#include "fuzz/target.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  spectrace::fuzz::take({reinterpret_cast<const char*>(data), size});
  return 0;
}

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t max_size);

/// JSON by its tree every other time; all else, and the other times, by its bytes.
extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t max_size,
                                               unsigned int seed) {
  if (seed % 2 == 0) {
    const auto text = spectrace::JsonMutator(seed).mutate({reinterpret_cast<const char*>(data), size});
    if (text && text->size() <= max_size) {
      std::memcpy(data, text->data(), text->size());
      return text->size();
    }
  }
  return LLVMFuzzerMutate(data, size, max_size);
}
