#include "spectrace/numerics/dense_svd.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "numerics/golden.hpp"
#include "spectrace/numerics/numerical_error.hpp"

namespace spectrace {
namespace {

Tensor example(std::int64_t rows, std::int64_t columns) {
  return at::arange(rows * columns, at::kDouble).mul(0.7).sin().reshape({rows, columns});
}

TEST(DenseSvd, all_routes_agree) {
  for (const auto& [rows, columns] : std::vector<std::array<std::int64_t, 2>>{{7, 7}, {9, 4}, {4, 9}, {1, 1}, {1, 6}}) {
    const Tensor a = example(rows, columns);
    const std::vector<double> direct = dense_singular_values(a, SvdRoute::direct);
    ASSERT_EQ(static_cast<std::size_t>(std::min(rows, columns)), direct.size());
    const double tolerance = 8 * static_cast<double>(rows + columns) * 0x1p-53 * direct.front();
    for (const SvdRoute route : {SvdRoute::two_stage, SvdRoute::transposed, SvdRoute::jordan_wielandt}) {
      const std::vector<double> other = dense_singular_values(a, route);
      ASSERT_EQ(direct.size(), other.size());
      for (std::size_t i = 0; i < direct.size(); ++i) EXPECT_NEAR(direct[i], other[i], tolerance);
    }
  }
}

TEST(DenseSvd, takes_values_of_the_right_norm_only) {
  const Tensor a = example(6, 5);
  const double norm = at::linalg_norm(a).item<double>();
  const double tolerance = 100 * norm * 0x1p-53;
  EXPECT_EQ(dense_singular_values(a, SvdRoute::two_stage), checked_singular_values(a, norm, tolerance).values);
  EXPECT_THROW(checked_singular_values(a, norm * (1 + 1e-12), tolerance), NumericalError);
}

TEST(DenseSvd, says_so_where_no_route_converges) {
  Tensor a = example(6, 5);
  a[2][3] = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THROW(checked_singular_values(a, 1.0, 1.0), NumericalError);
}

}  // namespace
}  // namespace spectrace
