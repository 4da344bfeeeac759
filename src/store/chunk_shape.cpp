#include "chunk_shape.hpp"

namespace spectrace::h5 {
namespace {

constexpr hsize_t kMostElements = (512 << 10) / sizeof(double);
constexpr hsize_t kFewElements = (4 << 10) / sizeof(double);

}  // namespace

std::vector<hsize_t> chunk_shape(const std::vector<hsize_t>& shape) {
  hsize_t num_elements = 1;
  for (const auto size : shape) num_elements *= size;
  if (shape.empty() || num_elements <= kFewElements) return {};
  std::vector<hsize_t> chunk(shape.size(), 1);
  hsize_t slab = 1;  // elements of the dimensions taken whole so far
  for (std::size_t axis = shape.size(); axis-- > 0;) {
    if (slab * shape[axis] <= kMostElements) {
      chunk[axis] = shape[axis];
      slab *= shape[axis];
      continue;
    }
    // Cut this one, into pieces of equal size rather than full ones and a rest: chunks are stored full.
    const auto most = kMostElements / slab;
    const auto num_chunks = (shape[axis] + most - 1) / most;
    chunk[axis] = (shape[axis] + num_chunks - 1) / num_chunks;
    break;
  }
  return chunk;
}

}  // namespace spectrace::h5
