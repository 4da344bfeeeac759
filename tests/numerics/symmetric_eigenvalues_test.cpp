#include "../../src/numerics/symmetric_eigenvalues.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numbers>
#include <string>

#include "support/unit_roundoff.hpp"

namespace spectrace {
namespace {

using Values = std::vector<double>;

std::vector<const SymmetricTridiagonal*> pointers_to(const std::vector<SymmetricTridiagonal>& matrices) {
  std::vector<const SymmetricTridiagonal*> pointers;
  for (const auto& matrix : matrices) pointers.push_back(&matrix);
  return pointers;
}

/// Whatever the size.
enum class Way { one_stage, two_stages };

template <typename Matrix>
Matrix filled(Matrix matrix, const Tensor& a) {
  const auto entries = a.accessor<double, 2>();
  for (std::int64_t j = 0; j < a.size(0); ++j)
    for (std::int64_t i = matrix.first_row(j / Matrix::kColumns); i < a.size(0); ++i) matrix.at(i, j) = entries[i][j];
  return matrix;
}

class SymmetricEigenvalues : public testing::TestWithParam<VectorKind> {
 protected:
  const SymmetricKernels& kernels() const { return symmetric_kernels(GetParam()); }

  SymmetricTridiagonal tridiagonal_of(const Tensor& a, Way way = Way::one_stage) const {
    if (way == Way::two_stages) return tridiagonalize(filled(SymmetricTiles(a.size(0)), a), kernels());
    return tridiagonalize(filled(SymmetricStrips(a.size(0), kernels()), a), kernels());
  }

  /// All at once, as many as there are.
  std::vector<Values> values_of(const std::vector<Tensor>& matrices, Way way = Way::one_stage) const {
    std::vector<SymmetricTridiagonal> tridiagonals;
    for (const Tensor& a : matrices) tridiagonals.push_back(tridiagonal_of(a, way));
    std::vector<Values> result;
    for (auto& values : eigenvalues(pointers_to(tridiagonals), kernels())) {
      EXPECT_TRUE(values);
      result.push_back(values.value_or(Values(tridiagonals.front().diagonal.size())));
    }
    return result;
  }

  void expect_lapacks(std::int64_t n, Way way) const;
};

Tensor noise(std::int64_t n, double phase) {
  return (at::arange(n * n, at::kDouble) * 0.7390851 + phase).sin().mul(1e4).frac().reshape({n, n});
}
Tensor symmetric(const Tensor& a) { return (a + a.t()).mul(0.5).contiguous(); }

/// Of the token graph of causal attention; sharp: nearly all weight on one token a row.
Tensor laplacian(std::int64_t n, double sharpness) {
  const Tensor scores = noise(n, 0.3).mul(sharpness).masked_fill(at::ones({n, n}, at::kBool).triu(1), -HUGE_VAL);
  const Tensor w = symmetric(at::softmax(scores, 1)).fill_diagonal_(0);
  return (at::diag(w.sum(1)) - w).contiguous();
}

/// Three components that lie between each other.
Tensor components(std::int64_t n) {
  const Tensor part = at::remainder(at::arange(n, at::kDouble), 3);
  return (symmetric(noise(n, 3.0)) * (part.unsqueeze(0) == part.unsqueeze(1))).contiguous();
}

struct Case {
  std::string name;
  Tensor a;
};

std::vector<Case> cases(std::int64_t n) {
  const Tensor k = at::arange(n, at::kDouble), grades = at::pow(10.0, -k.mul(12.0 / static_cast<double>(n)));
  const Tensor graded = symmetric(noise(n, 2.0)) * grades.unsqueeze(0) * grades.unsqueeze(1);
  const Tensor wilkinson =
      at::diag((k - static_cast<double>(n - 1) / 2).abs()) +
      (n > 1 ? at::diag(at::ones(n - 1, at::kDouble), 1) + at::diag(at::ones(n - 1, at::kDouble), -1)
             : at::zeros({1, 1}, at::kDouble));
  const Tensor same = at::remainder(k, 3).unsqueeze(0) == at::remainder(k, 3).unsqueeze(1);
  std::vector<Case> all = {
      {"attention", laplacian(n, 4)},
      {"sharp attention", laplacian(n, 400)},
      {"noise", symmetric(noise(n, 1.0))},
      {"complete graph", static_cast<double>(n) * at::eye(n, at::kDouble) - 1},
      {"graded down", graded},
      {"graded up", graded.flip({0, 1})},
      {"Wilkinson", wilkinson},
      {"three components that lie between each other", components(n)},
      {"weak links", laplacian(n, 4) * same + 1e-12 * laplacian(n, 2)},
      {"tiny beside the diagonal", at::diag(k) + 1e-145 * symmetric(noise(n, 4.0))},
      {"rank one", at::outer(k + 1, k + 1)},
  };
  for (Case& one : all) one.a = one.a.contiguous();
  return all;
}

void SymmetricEigenvalues::expect_lapacks(std::int64_t n, Way way) const {
  const std::vector<Case> all = cases(n);
  const auto together = static_cast<std::size_t>(kernels().together_step);
  for (std::size_t first = 0; first < all.size(); first += together) {
    std::vector<Tensor> some;
    for (std::size_t m = first; m < std::min(first + together, all.size()); ++m) some.push_back(all[m].a);
    const std::vector<Values> found = values_of(some, way);
    for (std::size_t m = 0; m < some.size(); ++m) {
      SCOPED_TRACE(all[first + m].name + ", n = " + std::to_string(n));
      const Tensor expected = at::linalg_eigvalsh(some[m]).contiguous();
      const double tolerance = 4 * static_cast<double>(n + 4) * kUnitRoundoff * expected.abs().max().item<double>();
      for (std::int64_t i = 0; i < n; ++i)
        EXPECT_NEAR(expected[i].item<double>(), found[m][static_cast<std::size_t>(i)], tolerance) << i;
    }
  }
}

TEST_P(SymmetricEigenvalues, are_lapacks) {
  for (const std::int64_t n : {1, 2, 3, 4, 5, 7, 8, 9, 12, 13, 16, 17, 31, 33, 64, 65, 100, 130, 257})
    expect_lapacks(n, Way::one_stage);
}

// Bands of 16, tiles of 12 rows and 48 columns: each of their ends in each place.
TEST_P(SymmetricEigenvalues, in_two_stages_are_lapacks) {
  for (std::int64_t n = 1; n <= 66; ++n) expect_lapacks(n, Way::two_stages);
  for (const std::int64_t n :
       {80, 81, 95, 96, 97, 98, 108, 109, 111, 112, 113, 127, 129, 143, 144, 145, 160, 161, 192, 193, 200, 257})
    expect_lapacks(n, Way::two_stages);
}

TEST_P(SymmetricEigenvalues, of_large_matrices_are_lapacks_in_both_ways) {
  for (const std::int64_t n : {800, 817, 840, 1023, 1024, 1025}) {
    std::vector<Tensor> matrices;
    matrices.push_back(laplacian(n, 4));
    if (n % 2 == 1) matrices.push_back(components(n));
    const std::vector<Values> slow = values_of(matrices), fast = values_of(matrices, Way::two_stages);
    for (std::size_t m = 0; m < matrices.size(); ++m) {
      const Tensor expected = at::linalg_eigvalsh(matrices[m]).contiguous();
      const double tolerance = static_cast<double>(n) * kUnitRoundoff * expected.abs().max().item<double>();
      for (std::int64_t i = 0; i < n; ++i) {
        ASSERT_NEAR(expected[i].item<double>(), slow[m][static_cast<std::size_t>(i)], tolerance) << m << " " << i;
        ASSERT_NEAR(expected[i].item<double>(), fast[m][static_cast<std::size_t>(i)], tolerance) << m << " " << i;
      }
    }
  }
}

/// The Laplacian of a graph with these weights.
Tensor laplacian_of(const Tensor& weights) {
  const Tensor w = symmetric(2 * weights).fill_diagonal_(0);
  return (at::diag(w.sum(1)) - w).contiguous();
}

// A matrix of equal entries is the hard one: what a reflector leaves of equal columns is equal, so the next ones point
// where it did, and their roundings, all of one sign, add up.
TEST_P(SymmetricEigenvalues, in_two_stages_are_those_that_are_known) {
  for (const std::int64_t n : {24, 96, 260, 1024}) {
    const auto last = static_cast<std::size_t>(n - 1);
    const auto size = static_cast<double>(n);
    const Tensor none = at::zeros({n, n}, at::kDouble), beside = at::diag(at::ones(n - 1, at::kDouble), 1);
    Tensor star = none.clone();
    star.select(1, 0).fill_(1);
    const Tensor part = at::remainder(at::arange(n, at::kDouble), 4);
    Values of_path, complete(last + 1, size), of_star(last + 1, 1.0), of_parts(last + 1, size / 4);
    for (std::int64_t k = 0; k < n; ++k)
      of_path.push_back(4 * std::pow(std::sin(std::numbers::pi * static_cast<double>(k) / (2 * size)), 2));
    complete[0] = of_star[0] = 0;
    of_star[last] = size;
    std::fill(of_parts.begin(), of_parts.begin() + 4, 0.0);
    const std::vector<Values> expected = {complete, of_path, of_star, of_parts};
    const auto found = values_of({laplacian_of(none + 0.5), laplacian_of(beside), laplacian_of(star),
                                  laplacian_of(0.5 * (part.unsqueeze(0) == part.unsqueeze(1)).to(at::kDouble))},
                                 Way::two_stages);
    for (std::size_t m = 0; m < expected.size(); ++m)
      for (std::size_t i = 0; i <= last; ++i)
        ASSERT_NEAR(expected[m][i], found[m][i], 2 * (size + 16) * kUnitRoundoff * expected[m][last])
            << n << " " << m << " " << i;
  }
}

TEST_P(SymmetricEigenvalues, of_diagonal_matrices_are_exact) {
  const Tensor diagonal = at::tensor({3.0, -1.0, 0.0, 1e-300, 7.0, 7.0, 0.1}, at::kDouble);
  for (const Way way : {Way::one_stage, Way::two_stages}) {
    const auto found = values_of({at::diag(diagonal), at::zeros({7, 7}, at::kDouble), at::eye(7, at::kDouble)}, way);
    EXPECT_EQ((Values{-1.0, 0.0, 1e-300, 0.1, 3.0, 7.0, 7.0}), found[0]);
    EXPECT_EQ(Values(7, 0.0), found[1]);
    EXPECT_EQ(Values(7, 1.0), found[2]);
    EXPECT_EQ(Values(100, 0.1), values_of({(0.1 * at::eye(100, at::kDouble)).contiguous()}, way)[0]);
  }
}

TEST_P(SymmetricEigenvalues, have_the_same_bits_in_any_company) {
  for (const std::int64_t n : {5, 16, 64, 130}) {
    std::vector<Tensor> matrices;
    for (const Case& one : cases(n)) matrices.push_back(one.a);
    matrices.resize(std::min<std::size_t>(matrices.size(), static_cast<std::size_t>(kernels().most_together)));
    const auto whole = values_of(matrices);
    for (std::size_t i = 0; i < matrices.size(); ++i) {
      EXPECT_EQ(whole[i], values_of({matrices[i]})[0]) << n << " " << i;
      EXPECT_EQ(whole[i], values_of({matrices[(i + 3) % matrices.size()], matrices[i], matrices[0]})[1])
          << n << " " << i;
    }
  }
}

TEST_P(SymmetricEigenvalues, scale_by_powers_of_two) {
  const Tensor a = laplacian(40, 4);
  for (const Way way : {Way::one_stage, Way::two_stages}) {
    const Values expected = values_of({a}, way)[0];
    for (const int exponent : {-990, -500, -70, 70, 500, 990}) {
      const Values found = values_of({a * std::ldexp(1.0, exponent)}, way)[0];
      for (std::size_t i = 0; i < expected.size(); ++i)
        EXPECT_EQ(std::ldexp(expected[i], exponent), found[i]) << exponent << " " << i;
    }
  }
}

TEST_P(SymmetricEigenvalues, that_do_not_come_are_none) {
  // A tridiagonal matrix is taken as it is; NaN never converges, and costs its company nothing.
  const double nan = std::nan("");
  const std::vector<SymmetricTridiagonal> matrices = {{{1, nan, 2}, {1, 1, 0}}, {{0, 0, 0}, {1, 1, 0}}};
  const auto found = eigenvalues(pointers_to(matrices), kernels());
  EXPECT_FALSE(found[0]);
  ASSERT_TRUE(found[1]);
  EXPECT_NEAR(std::sqrt(2.0), found[1]->back(), 8 * kUnitRoundoff);
}

TEST_P(SymmetricEigenvalues, of_nan_are_none) {
  for (const std::int64_t n : {1, 30, 100}) {
    const Tensor a = laplacian(n, 4);
    a[n / 2][n / 3] = std::nan("");
    for (const Way way : {Way::one_stage, Way::two_stages}) {
      const std::vector<SymmetricTridiagonal> matrices = {tridiagonal_of(a, way)};
      const auto found = eigenvalues(pointers_to(matrices), kernels())[0];
      ASSERT_EQ(n == 1, found.has_value()) << n;  // of one row there is nothing to converge
      if (n == 1) {
        EXPECT_TRUE(std::isnan(found->front()));
      }
    }
  }
}

TEST_P(SymmetricEigenvalues, of_a_tridiagonal_matrix_are_lapacks) {
  for (const std::int64_t n : {1, 2, 33}) {
    const std::vector<SymmetricTridiagonal> matrices = {tridiagonal_of(laplacian(n, 4))};
    const Values found = *eigenvalues(pointers_to(matrices), kernels())[0],
                 expected = eigenvalues_by_lapack(matrices[0]);
    ASSERT_EQ(expected.size(), found.size());
    for (std::size_t i = 0; i < found.size(); ++i)
      EXPECT_NEAR(expected[i], found[i], 8 * static_cast<double>(n) * kUnitRoundoff * expected.back()) << n << " " << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, SymmetricEigenvalues, testing::ValuesIn(vector_kinds()), [](const auto& kind) {
  const std::string said = name(kind.param);
  return said == "AVX-512" ? std::string("AVX512") : said;
});

}  // namespace
}  // namespace spectrace
