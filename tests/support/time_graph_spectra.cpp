// time_graph_spectra SIZE HEADS THREADS SECONDS
//
// How long the eigenvalues of token graphs take, for tools/bench/eigenvalues. Reads from the standard input the
// attention of HEADS heads, [heads, size, size] float32; for each line after it takes their spectra again and again for
// SECONDS, and writes the least time that one took, in seconds, and the largest eigenvalue of all.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <string>

#include "spectrace/numerics/graph_laplacian.hpp"
#include "spectrace/numerics/tensor.hpp"

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begun) { return std::chrono::duration<double>(Clock::now() - begun).count(); }

}  // namespace

int main(int argc, char** argv) {
  using namespace spectrace;
  if (argc != 5) {
    std::fputs("usage: time_graph_spectra SIZE HEADS THREADS SECONDS < ATTENTION\n", stderr);
    return 2;
  }
  const std::int64_t size = std::atoll(argv[1]), heads = std::atoll(argv[2]);
  set_compute_threads(std::atoi(argv[3]));
  const double least_seconds = std::atof(argv[4]);
  const Tensor a = at::empty({heads, size, size}, at::kFloat);
  std::cin.read(static_cast<char*>(a.mutable_data_ptr()), static_cast<std::streamsize>(a.nbytes()));
  if (!std::cin) {
    std::fputs("time_graph_spectra: the standard input ends before the attention does\n", stderr);
    return 2;
  }
  for (std::string line; std::getline(std::cin, line);) {
    double best = HUGE_VAL, largest = 0;
    const auto begun = Clock::now();
    do {
      const auto started = Clock::now();
      for (const auto& spectrum : graph_spectra(a)) largest = std::max(largest, spectrum.eigenvalues.back());
      best = std::min(best, seconds_since(started));
    } while (seconds_since(begun) < least_seconds);
    std::printf("%.9g %.17g\n", best, largest);
    std::fflush(stdout);
  }
}
