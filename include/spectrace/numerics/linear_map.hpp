#pragma once

#include <optional>

#include "spectrace/numerics/tensor.hpp"

namespace spectrace {

/// x w^T + bias, [rows, out]: float32 or float64, on whichever device all of it lies; on the host by what multiplies
/// fastest there, on the calling thread alone. @pre x is [rows, in], w [out, in], bias [out].
Tensor linear_map(const Tensor& x, const Tensor& w, const std::optional<Tensor>& bias);
/// The same into `out`, [rows, out].
void linear_map_into(const Tensor& x, const Tensor& w, const std::optional<Tensor>& bias, Tensor out);

}  // namespace spectrace
