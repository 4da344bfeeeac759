#pragma once

#include "band_matrix.hpp"
#include "blas.hpp"

namespace spectrace {

/// An upper band matrix with the singular values of a, [columns, columns]: blocked QR and LQ panels in turn, each
/// applied to the rest by matrix products (Grosser and Lang, Parallel Computing 25, 1999). 8/3 n^3 flops for n x n, all
/// but a few per cent of them in products. Overwrites a. Shares tiles of columns and rows out to the threads; the tiles
/// follow from the sizes alone, so the bits do not depend on how many threads there are.
/// @pre a.rows >= a.columns > 0; entries finite and far from overflow.
BandMatrix reduce_to_band(Block a, std::int64_t bandwidth);

/// Bytes that reduce_to_band takes besides a.
std::int64_t band_reduction_bytes(std::int64_t rows, std::int64_t columns, std::int64_t bandwidth);

}  // namespace spectrace
