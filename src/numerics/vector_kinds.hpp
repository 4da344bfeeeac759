#pragma once

#include <vector>

namespace spectrace {

/// Kinds of vector instructions that inner loops are compiled for. Bits may differ from one to the next.
enum class VectorKind { baseline, avx2, avx512 };

/// Those that this processor has, the best one last.
std::vector<VectorKind> vector_kinds();
VectorKind best_vector_kind();
const char* name(VectorKind kind);

}  // namespace spectrace
