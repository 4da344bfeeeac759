#include "spectrace/numerics/tensor.hpp"

#include <ATen/Parallel.h>

#include <cstdlib>

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "spectrace/core/error.hpp"
#include "spectrace/core/parallel.hpp"
#include "spectrace/numerics/tensor_memory.hpp"

namespace spectrace {
namespace {

/// Without this the bits of MKL's results depend on where in memory a matrix starts (seen: the eigenvalues of one head,
/// alone and among others). MKL reads the variable at its first call; a value that the user has set stays.
const int cbwr_was_set = ::setenv("MKL_CBWR", "AUTO", /*overwrite=*/0);

/// Memory of freed tensors stays with the process for the next ones: handing it back costs a page fault for every 4 KiB
/// of each work matrix (a twentieth of the forward pass of small models). Not of large ones: what is done with them
/// takes a thousand times as long as their faults, and their gaps would be a third of what the process has.
void keep_freed_memory() {
#ifdef __GLIBC__
  ::mallopt(M_MMAP_THRESHOLD, static_cast<int>(kLargeBlockBytes));
  ::mallopt(M_TRIM_THRESHOLD, 512 << 20);
#endif
}

}  // namespace

at::ScalarType scalar_type(ComputeType type) { return type == ComputeType::float64 ? at::kDouble : at::kFloat; }

const char* name(ComputeType type) { return type == ComputeType::float64 ? "float64" : "float32"; }

ComputeType parse_compute_type(const std::string& text) {
  if (text == "float32") return ComputeType::float32;
  if (text == "float64") return ComputeType::float64;
  throw InputError(ErrorKind::usage, "unknown dtype '" + text + "'", "allowed: float32, float64");
}

void set_compute_threads(int num_threads) {
  keep_freed_memory();
  // The setting is per thread in OpenMP: each worker has to make its own.
  at::set_num_threads(1);
  set_num_threads(1);  // so that those of before are not made anew for the new start alone
  set_worker_start([] { at::set_num_threads(1); });
  set_num_threads(num_threads);
}

}  // namespace spectrace
