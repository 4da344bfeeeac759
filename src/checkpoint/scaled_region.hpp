#pragma once

#include <cstdint>

#include "spectrace/checkpoint/region_reader.hpp"

namespace spectrace {

/// read_region of a tensor that has scales. @pre tensor.scales, source.scales_file; To is float or double
template <typename To>
std::int64_t read_scaled_region(const RegionSource& source, const TensorInfo& tensor, std::int64_t first,
                                std::int64_t num_rows, To* out, Xxh3* hash);

}  // namespace spectrace
