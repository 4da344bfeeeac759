// Runs a fuzz target without libFuzzer: PROGRAM COUNT FILE... mutates each file COUNT times, the same way every time.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "fuzz/mutator.hpp"
#include "spectrace/core/file.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

int main(int num_arguments, char** arguments) {
  if (num_arguments < 3) {
    std::fprintf(stderr, "usage: %s COUNT FILE...\n", arguments[0]);
    return 2;
  }
  const long count = std::atol(arguments[1]);
  for (int i = 2; i < num_arguments; ++i) {
    const std::string seed = spectrace::read_text_file(arguments[i]);
    spectrace::Mutator mutator(static_cast<std::uint64_t>(i));
    for (long k = 0; k < count; ++k) {
      const std::string bytes = mutator.mutate(seed);
      LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
    }
    std::printf("%s: %ld mutations\n", arguments[i], count);
  }
}
