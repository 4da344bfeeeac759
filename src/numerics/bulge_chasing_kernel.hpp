#pragma once

#include <cstdint>

// The inner loops of bulge chasing, compiled once for each kind of vector instructions (bulge_chasing_*.cpp). Nothing
// of the standard library but types: an inline function of it, compiled for AVX-512, could be the one that the linker
// keeps for the whole program.

namespace spectrace {

/// Makes an upper band matrix bidiagonal in place. @pre origin and bandwidth as in BandMatrix; bandwidth 16, 32 or 64.
using ChaseKernel = void (*)(double* origin, std::int64_t size, std::int64_t bandwidth);

void chase_baseline(double* origin, std::int64_t size, std::int64_t bandwidth);
void chase_avx2(double* origin, std::int64_t size, std::int64_t bandwidth);
void chase_avx512(double* origin, std::int64_t size, std::int64_t bandwidth);

}  // namespace spectrace
