// Runs a fuzz target without libFuzzer: PROGRAM COUNT FILE... mutates each file COUNT times, the same way every time;
// JSON by its tree every other time.
// Some mutations have to be taken and some refused, or they are too weak or too strong to try anything.
#include <cstdio>
#include <cstdlib>

#include "fuzz/json_mutator.hpp"
#include "fuzz/mutator.hpp"
#include "fuzz/target.hpp"
#include "spectrace/core/file.hpp"

int main(int num_arguments, char** arguments) {
  if (num_arguments < 3) {
    std::fprintf(stderr, "usage: %s COUNT FILE...\n", arguments[0]);
    return 2;
  }
  const long count = std::atol(arguments[1]);
  int code = 0;
  for (int i = 2; i < num_arguments; ++i) {
    const std::string seed = spectrace::read_text_file(arguments[i]);
    const std::string refusal = spectrace::fuzz::take(seed);
    spectrace::Mutator mutator(static_cast<std::uint64_t>(i));
    long taken = 0;
    spectrace::JsonMutator json_mutator(static_cast<std::uint64_t>(i));
    for (long k = 0; k < count; ++k) {
      const auto of_tree = k % 2 == 0 ? json_mutator.mutate(seed) : std::nullopt;
      taken += spectrace::fuzz::take(of_tree ? *of_tree : mutator.mutate(seed)).empty();
    }
    const bool good = refusal.empty() && taken > 0 && taken < count;
    std::printf("%s: %ld of %ld mutations taken%s\n", arguments[i], taken, count, good ? "" : " (FAILED)");
    if (!refusal.empty()) std::printf("the file itself is refused: %s\n", refusal.c_str());
    if (!good) code = 1;
  }
  return code;
}
