// Included by one file for each kind of vector instructions, which defines SPECTRACE_LEVEL_SUMS, the function's name,
// and SPECTRACE_LANES, how many float64 one vector holds.

#if SPECTRACE_LANES > 2
#include <immintrin.h>
#endif

#include "level_sums_kernel.hpp"

namespace spectrace {
namespace {

constexpr int kLanes = SPECTRACE_LANES;
constexpr int kVectors = kLanes == 8 ? 2 : 4 / (kLanes / 2);  // the steps of one polynomial wait for each other

typedef double Lanes __attribute__((vector_size(kLanes * sizeof(double))));
typedef double UnalignedLanes __attribute__((vector_size(kLanes * sizeof(double)), aligned(sizeof(double)), may_alias));
typedef std::int64_t Integers __attribute__((vector_size(kLanes * sizeof(std::int64_t))));

inline Lanes load(const double* from) { return *reinterpret_cast<const UnalignedLanes*>(from); }
inline void store(double* to, Lanes lanes) { *reinterpret_cast<UnalignedLanes*>(to) = lanes; }

/// from[at] in each lane.
inline Lanes gather(const double* from, Integers at) {
#if SPECTRACE_LANES == 8
  // Without a mask g++ 12 warns of what its header leaves uninitialized.
  return _mm512_mask_i64gather_pd(Lanes{}, 0xff, reinterpret_cast<__m512i>(at), from, 8);
#elif SPECTRACE_LANES == 4
  return _mm256_i64gather_pd(from, reinterpret_cast<__m256i>(at), 8);
#else
  return Lanes{from[at[0]], from[at[1]]};
#endif
}

inline Integers bits_of(Lanes x) { return reinterpret_cast<Integers>(x); }

/// The sums of kVectors vectors of y.
inline void sums_together(const double* table, const double* y, std::int64_t count, double* sums) {
  constexpr int kShift = 48;  // the exponent and the first four bits of the fraction are above
  const Integers first_end = bits_of(Lanes{} + kFirstLevelEnd);
  Integers at[kVectors];
  Lanes t[kVectors], value[kVectors], slope[kVectors], half_curvature[kVectors];
  for (int v = 0; v < kVectors; ++v) {
    const Lanes here = load(y + v * kLanes);
    const Integers above = (bits_of(here) >> kShift) - (first_end >> kShift) + 1;
    const Integers interval = above > 0 ? above : Integers{};
    t[v] = reinterpret_cast<Lanes>(first_end + (interval << kShift)) - here;
    at[v] = interval * kLevelTerms + (kLevelTerms - 1);
    value[v] = gather(table, at[v]);
    slope[v] = half_curvature[v] = Lanes{};
  }
  // Horner, with both derivatives.
  for (int k = 1; k < kLevelTerms; ++k)
    for (int v = 0; v < kVectors; ++v) {
      half_curvature[v] = half_curvature[v] * t[v] + slope[v];
      slope[v] = slope[v] * t[v] + value[v];
      value[v] = value[v] * t[v] + gather(table, at[v] - k);
    }
  for (int v = 0; v < kVectors; ++v) {
    store(sums + v * kLanes, value[v]);
    store(sums + count + v * kLanes, slope[v]);
    store(sums + 2 * count + v * kLanes, 2 * half_curvature[v]);
  }
}

}  // namespace

void SPECTRACE_LEVEL_SUMS(const double* table, const double* y, std::int64_t count, double* sums) {
  static_assert(kLevelsTogether % (kVectors * kLanes) == 0);
  for (std::int64_t i = 0; i < count; i += kVectors * kLanes) sums_together(table, y + i, count, sums + i);
}

}  // namespace spectrace
