#include "spectrace/numerics/linear_map.hpp"

#include <gtest/gtest.h>

#include <array>
#include <limits>

namespace spectrace {
namespace {

Tensor numbers(std::int64_t rows, std::int64_t columns, double phase) {
  return (at::arange(rows * columns, at::kDouble) * 0.7390851 + phase).sin().reshape({rows, columns});
}

class LinearMap : public testing::TestWithParam<at::ScalarType> {
 protected:
  /// Against the definition in float64, with a bound of its own for each entry.
  void expect_map(const Tensor& x, const Tensor& w, const std::optional<Tensor>& bias, const Tensor& found) {
    const Tensor wide_x = x.to(at::kDouble), wide_w = w.to(at::kDouble);
    Tensor expected = at::matmul(wide_x, wide_w.t()), sizes = at::matmul(wide_x.abs(), wide_w.abs().t());
    if (bias) {
      expected += bias->to(at::kDouble);
      sizes += bias->to(at::kDouble).abs();
    }
    const double unit = GetParam() == at::kFloat ? 0x1p-24 : 0x1p-53;
    const Tensor errors =
        (found.to(at::kDouble) - expected).abs() - 2 * static_cast<double>(x.size(1) + 4) * unit * sizes;
    EXPECT_LE(errors.max().item<double>(), 0.0);
    EXPECT_EQ(GetParam(), found.scalar_type());
  }
};

TEST_P(LinearMap, is_that_of_the_definition) {
  using Case = std::array<std::int64_t, 3>;
  for (const auto& [rows, in, out] : std::vector<Case>{
           {1, 1, 1}, {1, 64, 50}, {7, 30, 49}, {8, 16, 48}, {64, 300, 100}, {70, 515, 250}, {530, 20, 9}})
    for (const bool has_bias : {false, true}) {
      SCOPED_TRACE(testing::Message() << rows << ", " << in << " -> " << out << ", bias " << has_bias);
      const Tensor x = numbers(rows, in, 0.1).to(GetParam()), w = numbers(out, in, 0.2).to(GetParam());
      const auto bias = has_bias ? std::optional(numbers(1, out, 0.3)[0].to(GetParam()).contiguous()) : std::nullopt;
      expect_map(x, w, bias, linear_map(x, w, bias));
      // Weights that are stored as their transpose (GPT-2), rows and results that lie within others.
      const Tensor stored = w.t().contiguous().t(), wide = at::full({rows, out + 5}, 7, x.options());
      const Tensor within = numbers(rows, in + 3, 0.4).to(GetParam()).narrow(1, 2, in);
      linear_map_into(within, stored, bias, wide.narrow(1, 3, out));
      expect_map(within, w, bias, wide.narrow(1, 3, out));
      EXPECT_TRUE((wide.narrow(1, 0, 3) == 7).all().item<bool>());
      EXPECT_TRUE((wide.narrow(1, out + 3, 2) == 7).all().item<bool>());
    }
}

TEST_P(LinearMap, has_nan_where_a_row_has) {
  Tensor x = numbers(9, 40, 0.1).to(GetParam());
  x[4][39] = std::numeric_limits<double>::infinity();
  x[7][0] = std::numeric_limits<double>::quiet_NaN();
  const Tensor is_finite = linear_map(x, numbers(30, 40, 0.2).to(GetParam()), std::nullopt).isfinite();
  for (std::int64_t row = 0; row < 9; ++row)
    EXPECT_EQ(row == 4 || row == 7 ? 0 : 30, is_finite[row].sum().item<std::int64_t>()) << row;
}

TEST_P(LinearMap, of_no_rows_is_empty) {
  EXPECT_EQ(0, linear_map(at::empty({0, 5}, GetParam()), at::ones({3, 5}, GetParam()), std::nullopt).numel());
}

INSTANTIATE_TEST_SUITE_P(Types, LinearMap, testing::Values(at::kFloat, at::kDouble),
                         [](const auto& type) { return std::string(at::toString(type.param)); });

}  // namespace
}  // namespace spectrace
