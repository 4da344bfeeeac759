#include "spectrace/numerics/attention_graph.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "spectrace/numerics/graph_laplacian.hpp"
#include "spectrace/numerics/token_geometry.hpp"

namespace spectrace {
namespace {

Tensor attention(std::int64_t n, at::ScalarType type = at::kDouble) {
  const Tensor scores = at::sin(at::arange(n * n, at::kDouble)).mul_(3).reshape({n, n});
  return at::softmax(scores + at::full({n, n}, -HUGE_VAL, at::kDouble).triu(1), -1).to(type);
}

TEST(DirectedLaplacian, has_the_eigenvalues_of_the_matrix_on_its_diagonal) {
  for (const auto type : {at::kFloat, at::kDouble}) {
    const Tensor a = attention(7, type), wide = a.to(at::kDouble);
    const Tensor degrees = wide.sum(0) / at::arange(7, 0, -1, at::kDouble);
    const Tensor values = std::get<0>(at::real(at::linalg_eigvals(at::diag(degrees) - wide)).sort());
    std::vector<double> found = directed_laplacian_diagonal(a);
    std::sort(found.begin(), found.end());
    for (std::size_t i = 0; i < found.size(); ++i)
      EXPECT_NEAR(found[i], values[static_cast<std::int64_t>(i)].item<double>(), 1e-12);
  }
}

TEST(DirichletEnergy, is_the_laplacians_quotient) {
  const Tensor a = attention(6), h = at::cos(at::arange(6 * 5, at::kDouble).square()).reshape({6, 5});
  Tensor weights = (a + a.t()) / 2;
  weights.fill_diagonal_(0);
  const Tensor laplacian = at::diag(weights.sum(1)) - weights;
  const double squares = h.square().sum().item<double>();
  const double expected = h.t().mm(laplacian).mm(h).trace().item<double>() / squares;
  EXPECT_NEAR(dirichlet_energy(a, squared_distances(h), squares), expected, 1e-14);
  EXPECT_EQ(dirichlet_energy(a, squared_distances(at::ones({6, 5}, at::kDouble)), 30), 0);
}

TEST(AttentionRank, is_one_where_all_rows_look_alike) {
  Tensor collapsed = at::zeros({9, 9}, at::kDouble);
  collapsed.select(1, 0).fill_(1);
  EXPECT_NEAR(attention_rank(collapsed).effective_rank, 1, 1e-12);
  EXPECT_NEAR(attention_rank(collapsed).spectral_norm, 3, 1e-14);
  EXPECT_NEAR(attention_rank(at::eye(9, at::kFloat)).effective_rank, 9, 1e-12);
}

TEST(LevelSpacing, is_by_hand) {
  const LevelSpacing found = level_spacing(std::vector<double>{0, 1, 3, 4, 8}, 0);
  EXPECT_EQ(found.num_levels, 5);
  EXPECT_NEAR(found.mean_ratio, (1.0 / 2 + 1.0 / 2 + 1.0 / 4) / 3, 1e-15);
}

TEST(LevelSpacing, takes_what_may_be_equal_for_one_level) {
  const std::vector<double> levels = {1, 1 + 1e-12, 1 + 2e-12, 2, 4, 4 + 1e-12};
  const LevelSpacing found = level_spacing(levels, 1e-12);
  EXPECT_EQ(found.num_levels, 3);
  EXPECT_NEAR(found.mean_ratio, 0.5, 1e-11);
  EXPECT_EQ(level_spacing(levels, 1e-14).num_levels, 6);
}

TEST(LevelSpacing, needs_three_levels) {
  for (const std::vector<double>& few : {std::vector<double>{}, {1}, {1, 2}, {1, 2, 2}})
    EXPECT_TRUE(std::isnan(level_spacing(few, 1e-15).mean_ratio));
}

/// A path of n tokens, whose eigenvalues are known: none is within its error of another one.
TEST(GraphEigenvalueError, bounds_what_is_known) {
  constexpr std::int64_t n = 40;
  Tensor a = at::zeros({1, n, n}, at::kDouble);
  a[0].diagonal(-1).fill_(1);
  const GraphSpectrum spectrum = graph_spectra(a).front();
  const double error = graph_eigenvalue_error(n, spectrum.eigenvalues.back());
  for (std::int64_t k = 0; k < n; ++k) {
    const double exact = 1 - std::cos(std::numbers::pi * static_cast<double>(k) / n);
    EXPECT_LE(std::abs(spectrum.eigenvalues[static_cast<std::size_t>(k)] - exact), error);
  }
  EXPECT_EQ(level_spacing(spectrum.eigenvalues, error).num_levels, n);
}

}  // namespace
}  // namespace spectrace
