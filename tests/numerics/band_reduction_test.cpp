#include "../../src/numerics/band_reduction.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <array>
#include <vector>

#include "../../src/numerics/bulge_chasing.hpp"
#include "spectrace/core/parallel.hpp"
#include "spectrace/numerics/tensor.hpp"
#include "support/unit_roundoff.hpp"

namespace spectrace {
namespace {

Tensor random_matrix(std::int64_t rows, std::int64_t columns) {
  at::manual_seed(5);
  return at::randn({rows, columns}, at::kDouble);
}

BandMatrix band_of(const Tensor& a, std::int64_t bandwidth) {
  Tensor copy = a.t().contiguous();
  return reduce_to_band({copy.mutable_data_ptr<double>(), a.size(0), a.size(1), a.size(0)}, bandwidth);
}

Tensor dense(BandMatrix& band) {
  const std::int64_t n = band.size(), b = band.bandwidth();
  Tensor result = at::zeros({n, n}, at::kDouble);
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t j = std::max<std::int64_t>(0, i - b); j < std::min(n, i + 2 * b); ++j) result[i][j] = band(i, j);
  return result;
}

Tensor dense(const Bidiagonal& b) {
  return at::diag(at::tensor(b.diagonal, at::kDouble)) + (b.superdiagonal.empty()
                                                              ? at::zeros({1, 1}, at::kDouble)
                                                              : at::diag(at::tensor(b.superdiagonal, at::kDouble), 1));
}

/// By LAPACK, an independent way. Errors of random signs stay well below this.
void expect_same_singular_values(const Tensor& a, const Tensor& b) {
  const Tensor expected = at::linalg_svdvals(a), actual = at::linalg_svdvals(b);
  const double tolerance = 4 * static_cast<double>(a.size(0)) * kUnitRoundoff * expected[0].item<double>();
  EXPECT_LE((expected - actual).abs().max().item<double>(), tolerance);
}

TEST(BandReduction, keeps_singular_values_and_makes_a_band) {
  using Case = std::array<std::int64_t, 3>;
  for (const auto& [rows, columns, bandwidth] : std::vector<Case>{{1, 1, 16},
                                                                  {5, 5, 16},
                                                                  {16, 16, 16},
                                                                  {17, 17, 16},
                                                                  {33, 31, 16},
                                                                  {70, 50, 16},
                                                                  {96, 96, 32},
                                                                  {130, 100, 32},
                                                                  {300, 290, 64},
                                                                  {50, 1, 16},
                                                                  {40, 17, 16},
                                                                  {200, 64, 64}}) {
    SCOPED_TRACE(testing::Message() << rows << " x " << columns << ", " << bandwidth);
    const Tensor a = random_matrix(rows, columns);
    BandMatrix band = band_of(a, bandwidth);
    const Tensor b = dense(band);
    EXPECT_TRUE(at::equal(b, b.triu().tril(bandwidth)));
    expect_same_singular_values(a, b);
  }
}

TEST(BandReduction, where_one_singular_value_dominates) {
  const std::int64_t n = 200;
  const Tensor a = random_matrix(n, n) + 1e6 * at::ones({n, n}, at::kDouble);
  BandMatrix band = band_of(a, 16);
  expect_same_singular_values(a, dense(band));
}

TEST(BandReduction, has_the_same_bits_for_any_number_of_threads) {
  const Tensor a = random_matrix(1100, 1000);
  set_compute_threads(1);
  BandMatrix one = band_of(a, 32);
  set_compute_threads(3);
  BandMatrix three = band_of(a, 32);
  set_compute_threads(1);
  for (std::int64_t i = 0; i < one.size(); ++i)
    for (std::int64_t j = i; j < std::min(one.size(), i + 33); ++j) ASSERT_EQ(one(i, j), three(i, j));
}

TEST(BulgeChasing, keeps_singular_values_with_every_kind_of_vectors) {
  ASSERT_FALSE(vector_kinds().empty());
  for (const VectorKind kind : vector_kinds())
    for (const std::int64_t bandwidth : {16, 32, 64})
      for (const std::int64_t n : {1, 2, 15, 16, 17, 40, 65, 150, 259}) {
        SCOPED_TRACE(testing::Message() << name(kind) << ", " << n << ", " << bandwidth);
        const Tensor a = random_matrix(n, n).triu().tril(bandwidth);
        BandMatrix band(n, bandwidth);
        for (std::int64_t i = 0; i < n; ++i)
          for (std::int64_t j = i; j < std::min(n, i + bandwidth + 1); ++j) band(i, j) = a[i][j].item<double>();
        const Bidiagonal result = chase_bulges(std::move(band), kind);
        ASSERT_EQ(static_cast<std::size_t>(n), result.diagonal.size());
        ASSERT_EQ(static_cast<std::size_t>(n - 1), result.superdiagonal.size());
        expect_same_singular_values(a, dense(result));
      }
}

TEST(BulgeChasing, gives_the_same_bits_each_time) {
  const Tensor a = random_matrix(200, 200);
  for (const VectorKind kind : vector_kinds()) {
    const Bidiagonal first = chase_bulges(band_of(a, 32), kind), second = chase_bulges(band_of(a, 32), kind);
    EXPECT_EQ(first.diagonal, second.diagonal) << name(kind);
    EXPECT_EQ(first.superdiagonal, second.superdiagonal) << name(kind);
  }
}

}  // namespace
}  // namespace spectrace
