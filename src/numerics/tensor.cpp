#include "spectrace/numerics/tensor.hpp"

#include <ATen/Parallel.h>

#include <cstdlib>

#include "spectrace/core/error.hpp"
#include "spectrace/core/parallel.hpp"

namespace spectrace {
namespace {

/// Without this the bits of MKL's results depend on where in memory a matrix starts (seen: the eigenvalues of one head,
/// alone and among others). MKL reads the variable at its first call; a value that the user has set stays.
const int cbwr_was_set = ::setenv("MKL_CBWR", "AUTO", /*overwrite=*/0);

}  // namespace

at::ScalarType scalar_type(ComputeType type) { return type == ComputeType::float64 ? at::kDouble : at::kFloat; }

const char* name(ComputeType type) { return type == ComputeType::float64 ? "float64" : "float32"; }

ComputeType parse_compute_type(const std::string& text) {
  if (text == "float32") return ComputeType::float32;
  if (text == "float64") return ComputeType::float64;
  throw InputError(ErrorKind::usage, "unknown dtype '" + text + "'", "allowed: float32, float64");
}

void set_compute_threads(int num_threads) {
  // The setting is per thread in OpenMP: each worker has to make its own.
  at::set_num_threads(1);
  set_worker_start([] { at::set_num_threads(1); });
  set_num_threads(num_threads);
}

}  // namespace spectrace
