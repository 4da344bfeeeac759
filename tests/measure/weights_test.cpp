#include <gtest/gtest.h>

#include <string>

#include "spectrace/measure/catalogue.hpp"
#include "spectrace/numerics/numerical_error.hpp"
#include "support/plain_layers.hpp"

namespace spectrace {
namespace {

/// Two heads of two dimensions, one of keys and values for both; every matrix of ones.
class OneLayer : public ::testing::Test {
 protected:
  OneLayer() {
    model_.hidden_size = 4;
    model_.num_heads = 2;
    model_.num_kv_heads = 1;
    model_.head_dim = 2;
    model_.num_layers = 1;
    set_plain_layers(model_);
    for (const MatrixRole role : kAttentionRoles) {
      const bool is_of_keys = role == MatrixRole::w_k || role == MatrixRole::w_v;
      matrices_.set(role, at::ones({is_of_keys ? 2 : 4, 4}, at::kDouble));
    }
    values_ = value_spectra(model_, matrices_.at(MatrixRole::w_v), Slicing::correct);
  }

  Record measure(const std::string& analysis) const {
    const auto& layers = dynamic_cast<const LayerAnalysis&>(*find_analysis(analysis));
    return layers.measure({model_, matrices_, Slicing::correct, values_});
  }

  std::string error_of(const std::string& analysis) const {
    try {
      measure(analysis);
      return "";
    } catch (const NumericalError& error) {
      return error.what();
    }
  }

  ModelDescription model_;
  LayerMatrices matrices_;
  std::vector<ValueSpectrum> values_;
};

TEST_F(OneLayer, an_error_names_its_matrix) {
  ASSERT_EQ(error_of("weights"), "");
  for (const MatrixRole role : kAttentionRoles) {
    const Tensor ones = matrices_.at(role);
    matrices_.set(role, ones * 0x1p1023);
    EXPECT_EQ(error_of("weights"),
              std::string(info(role).name) +
                  ": the spectral norm is beyond the range of float64, though every entry is in it");
    matrices_.set(role, ones);
  }
}

TEST_F(OneLayer, an_error_names_its_head) {
  ASSERT_EQ(error_of("heads"), "");
  matrices_.at(MatrixRole::w_q).narrow(0, 2, 2) *= 0x1p1023;
  EXPECT_EQ(error_of("heads"),
            "W_Q of head 1: the spectral norm is beyond the range of float64, though every entry is in it");
}

// A matrix of ones has one singular value, the root of its number of entries.
TEST_F(OneLayer, values_stand_at_their_matrix_and_head) {
  matrices_.set(MatrixRole::w_o, 3 * matrices_.at(MatrixRole::w_o));
  const Record matrices = measure("weights"), heads = measure("heads");
  const std::vector<double> norms = {4, std::sqrt(8), std::sqrt(8), 12};
  for (std::size_t m = 0; m < norms.size(); ++m)
    EXPECT_NEAR(matrices.arrays.at("spectral_norm").values[m], norms[m], 8 * 0x1p-53 * norms[m]) << m;
  EXPECT_EQ(matrices.arrays.at("num_singular_values").values, (std::vector<double>{4, 2, 2, 4}));
  ASSERT_EQ(heads.arrays.at("spectral_norm").shape, (std::vector<std::int64_t>{4, 2}));
  for (std::size_t m = 0; m < norms.size(); ++m)
    for (std::size_t h = 0; h < 2; ++h) {
      const double of_slice = m == 3 ? 3 * std::sqrt(8) : std::sqrt(8);
      EXPECT_NEAR(heads.arrays.at("spectral_norm").values[2 * m + h], of_slice, 8 * 0x1p-53 * of_slice)
          << m << " " << h;
    }
}

}  // namespace
}  // namespace spectrace
