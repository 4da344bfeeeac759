#pragma once

#include <hdf5.h>

#include <vector>

namespace spectrace::h5 {

/// Shape of the chunks that a dataset of 8-byte numbers is stored in: whole trailing dimensions, up to 512 KiB, so that
/// one (layer, matrix) or (block of prompts, layer) is one slab. Empty for what is stored in one piece without filters:
/// a scalar, a dataset without elements, one of at most 4 KiB (a chunk's index alone takes 2 KiB).
std::vector<hsize_t> chunk_shape(const std::vector<hsize_t>& shape);

}  // namespace spectrace::h5
