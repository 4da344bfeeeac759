#include "bulge_chasing.hpp"

#include "bulge_chasing_kernel.hpp"
#include "spectrace/core/error.hpp"

namespace spectrace {
namespace {

ChaseKernel kernel_of(VectorKind kind) {
  switch (kind) {
#ifdef SPECTRACE_X86_KERNELS
    case VectorKind::avx512: return chase_avx512;
    case VectorKind::avx2: return chase_avx2;
#endif
    default: return chase_baseline;
  }
}

}  // namespace

Bidiagonal chase_bulges(BandMatrix band, VectorKind kind) {
  const std::int64_t bandwidth = band.bandwidth(), size = band.size();
  SPECTRACE_ASSERT(bandwidth == 16 || bandwidth == 32 || bandwidth == 64);
  kernel_of(kind)(band.origin(), size, bandwidth);
  Bidiagonal result;
  for (std::int64_t i = 0; i < size; ++i) {
    result.diagonal.push_back(band(i, i));
    if (i + 1 < size) result.superdiagonal.push_back(band(i, i + 1));
  }
  return result;
}

Bidiagonal chase_bulges(BandMatrix band) { return chase_bulges(std::move(band), best_vector_kind()); }

}  // namespace spectrace
