#include "../../src/numerics/symmetric_eigenvalues.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
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

class SymmetricEigenvalues : public testing::TestWithParam<VectorKind> {
 protected:
  const SymmetricKernels& kernels() const { return symmetric_kernels(GetParam()); }

  SymmetricTridiagonal tridiagonal_of(const Tensor& a) const {
    SymmetricStrips strips(a.size(0), kernels());
    const auto entries = a.accessor<double, 2>();
    for (std::int64_t j = 0; j < a.size(0); ++j)
      for (std::int64_t i = strips.first_row(j / SymmetricStrips::kColumns); i < a.size(0); ++i)
        strips.at(i, j) = entries[i][j];
    return tridiagonalize(std::move(strips), kernels());
  }

  /// All at once, as many as there are.
  std::vector<Values> values_of(const std::vector<Tensor>& matrices) const {
    std::vector<SymmetricTridiagonal> tridiagonals;
    for (const Tensor& a : matrices) tridiagonals.push_back(tridiagonal_of(a));
    std::vector<Values> result;
    for (auto& values : eigenvalues(pointers_to(tridiagonals), kernels())) {
      EXPECT_TRUE(values);
      result.push_back(values.value_or(Values(tridiagonals.front().diagonal.size())));
    }
    return result;
  }
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
      {"three components that lie between each other", symmetric(noise(n, 3.0)) * same},
      {"weak links", laplacian(n, 4) * same + 1e-12 * laplacian(n, 2)},
      {"tiny beside the diagonal", at::diag(k) + 1e-145 * symmetric(noise(n, 4.0))},
      {"rank one", at::outer(k + 1, k + 1)},
  };
  for (Case& one : all) one.a = one.a.contiguous();
  return all;
}

TEST_P(SymmetricEigenvalues, are_lapacks) {
  for (const std::int64_t n : {1, 2, 3, 4, 5, 7, 8, 9, 12, 13, 16, 17, 31, 33, 64, 65, 100, 130, 257}) {
    std::vector<Tensor> matrices;
    for (const Case& one : cases(n)) matrices.push_back(one.a);
    std::vector<Values> found;
    for (std::size_t i = 0; i < matrices.size(); i += 8)
      for (auto& values : values_of({matrices.begin() + static_cast<std::ptrdiff_t>(i),
                                     matrices.begin() + static_cast<std::ptrdiff_t>(std::min(i + 8, matrices.size()))}))
        found.push_back(std::move(values));
    for (std::size_t m = 0; m < matrices.size(); ++m) {
      SCOPED_TRACE(cases(n)[m].name + ", n = " + std::to_string(n));
      const Tensor expected = at::linalg_eigvalsh(matrices[m]).contiguous();
      const double tolerance = 4 * static_cast<double>(n + 4) * kUnitRoundoff * expected.abs().max().item<double>();
      for (std::int64_t i = 0; i < n; ++i)
        EXPECT_NEAR(expected[i].item<double>(), found[m][static_cast<std::size_t>(i)], tolerance) << i;
    }
  }
}

// Beyond the size from which updates are put off.
TEST_P(SymmetricEigenvalues, of_large_matrices_are_lapacks) {
  for (const std::int64_t n : {1025, 1043}) {
    const std::vector<Tensor> matrices = {laplacian(n, 4), symmetric(noise(n, 1.0)),
                                          (static_cast<double>(n) * at::eye(n, at::kDouble) - 1).contiguous()};
    const std::vector<Values> found = values_of(matrices);
    for (std::size_t m = 0; m < matrices.size(); ++m) {
      const Tensor expected = at::linalg_eigvalsh(matrices[m]).contiguous();
      const double tolerance = static_cast<double>(n) * kUnitRoundoff * expected.abs().max().item<double>();
      for (std::int64_t i = 0; i < n; ++i)
        ASSERT_NEAR(expected[i].item<double>(), found[m][static_cast<std::size_t>(i)], tolerance) << m << " " << i;
    }
  }
}

TEST_P(SymmetricEigenvalues, of_diagonal_matrices_are_exact) {
  const Tensor diagonal = at::tensor({3.0, -1.0, 0.0, 1e-300, 7.0, 7.0, 0.1}, at::kDouble);
  const auto found = values_of({at::diag(diagonal), at::zeros({7, 7}, at::kDouble), at::eye(7, at::kDouble)});
  EXPECT_EQ((Values{-1.0, 0.0, 1e-300, 0.1, 3.0, 7.0, 7.0}), found[0]);
  EXPECT_EQ(Values(7, 0.0), found[1]);
  EXPECT_EQ(Values(7, 1.0), found[2]);
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
  const Values expected = values_of({a})[0];
  for (const int exponent : {-990, -500, -70, 70, 500, 990}) {
    const Values found = values_of({a * std::ldexp(1.0, exponent)})[0];
    for (std::size_t i = 0; i < expected.size(); ++i)
      EXPECT_EQ(std::ldexp(expected[i], exponent), found[i]) << exponent << " " << i;
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
