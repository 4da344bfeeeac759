#include "vector_kinds.hpp"

namespace spectrace {

std::vector<VectorKind> vector_kinds() {
  std::vector<VectorKind> kinds = {VectorKind::baseline};
#ifdef SPECTRACE_X86_KERNELS
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) kinds.push_back(VectorKind::avx2);
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq")) kinds.push_back(VectorKind::avx512);
#endif
  return kinds;
}

VectorKind best_vector_kind() {
  static const VectorKind best = vector_kinds().back();
  return best;
}

const char* name(VectorKind kind) {
  switch (kind) {
    case VectorKind::baseline: return "baseline";
    case VectorKind::avx2: return "AVX2";
    case VectorKind::avx512: return "AVX-512";
  }
  return "";
}

}  // namespace spectrace
